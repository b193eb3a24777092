#include "access_fault.h"

#include <csetjmp>
#include <csignal>
#include <cstring>
#include <mutex>

namespace kernelevo {
namespace {

struct Guard {
  sigjmp_buf escape;
  uintptr_t address = 0;
};

thread_local Guard* current_guard = nullptr;
struct sigaction earlier_segv, earlier_bus;

void on_fault(int signal, siginfo_t* info, void* context) {
  if (Guard* guard = current_guard) {
    // An address outside the address space is not told.
    guard->address = info->si_code == SI_KERNEL ? UINTPTR_MAX : reinterpret_cast<uintptr_t>(info->si_addr);
    siglongjmp(guard->escape, 1);
  }
  // Not a kernel's: as if we were not here.
  const struct sigaction& earlier = signal == SIGSEGV ? earlier_segv : earlier_bus;
  if (earlier.sa_flags & SA_SIGINFO) {
    earlier.sa_sigaction(signal, info, context);
  } else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
    earlier.sa_handler(signal);
  } else {
    sigaction(signal, &earlier, nullptr);  // the access faults again, and ends the process
  }
}

void install_handlers() {
  struct sigaction action {};
  action.sa_sigaction = &on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &earlier_segv);
  sigaction(SIGBUS, &action, &earlier_bus);
}

}  // namespace

AccessFault catch_access_fault(const std::function<void()>& body) {
  static std::once_flag installed;
  std::call_once(installed, install_handlers);
  Guard guard;
  Guard* outer = current_guard;
  if (sigsetjmp(guard.escape, 1) != 0) {
    current_guard = outer;
    return {true, guard.address};
  }
  current_guard = &guard;
  body();
  current_guard = outer;
  return {};
}

}  // namespace kernelevo
