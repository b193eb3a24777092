#include "workers.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cfenv>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace kernelevo {
namespace {

class Workers {
 public:
  void run(int helpers, const std::function<void()>& work) {
    std::lock_guard one_at_a_time(launch_);
    {
      std::lock_guard lock(mutex_);
      helpers = start(helpers);
      work_ = &work;
      helpers_ = helpers;
      unfinished_ = helpers;
      round_++;
    }
    wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return unfinished_ == 0; });
    work_ = nullptr;
  }

 private:
  // How many helpers there are now, at most `wanted`: fewer where the machine gives no more threads.
  int start(int wanted) {
    try {
      for (; started_ < wanted; started_++) std::thread([this, number = started_] { serve(number); }).detach();
    } catch (const std::system_error&) {
    }
    return std::min(started_, wanted);
  }

  void serve(int number) {
    pthread_setname_np(pthread_self(), "emulated-gpu");  // kernelevo/devices/integrity.py tells ours from a candidate's
    uint64_t seen = 0;
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return round_ != seen && work_ && number < helpers_; });
      seen = round_;
      const std::function<void()>* work = work_;
      lock.unlock();
      (*work)();
      lock.lock();
      if (--unfinished_ == 0) finished_.notify_one();
    }
  }

  std::mutex launch_, mutex_;
  std::condition_variable wake_, finished_;
  const std::function<void()>* work_ = nullptr;
  uint64_t round_ = 0;
  int started_ = 0, helpers_ = 0, unfinished_ = 0;
};

// Rounding to nearest, subnormals kept: what emulated arithmetic relies on. The host program may have set something else,
// for example by torch.set_flush_denormal or by loading a library that was linked with -ffast-math.
class DefaultFloatingPoint {
 public:
  DefaultFloatingPoint() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatingPoint() { std::fesetenv(&before_); }
  DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
  DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

 private:
  std::fenv_t before_;
};

int usable_cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

Workers& workers() {
  // Threads do not survive fork(): the child makes its own pool. The parent's object is left alone on purpose.
  static std::mutex mutex;
  static Workers* pool = nullptr;
  static pid_t owner = 0;
  std::lock_guard lock(mutex);
  if (!pool || owner != getpid()) {
    pool = new Workers;
    owner = getpid();
  }
  return *pool;
}

}  // namespace

void run_on_workers(int threads, uint64_t items, const std::function<void()>& work) {
  static const int cores = usable_cores();
  uint64_t wanted = static_cast<uint64_t>(threads > 0 ? threads : cores);
  if (wanted > items) wanted = items;
  const std::function<void()> isolated = [&work] {
    DefaultFloatingPoint environment;
    work();
  };
  if (wanted <= 1) {
    isolated();
    return;
  }
  workers().run(static_cast<int>(wanted) - 1, isolated);
}

}  // namespace kernelevo
