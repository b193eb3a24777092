// One extension whose entry point tries, by name, what a candidate must not be able to do, and says how it failed.
//   forward(text, number): text is a uint8 tensor with a path, a port, a process or nothing; the result holds one errno,
//   0 where the attempt went well.
#include <dirent.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pybind11/pybind11.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <thread>

namespace py = pybind11;

using Text = const std::string&;

static int outcome(long result) { return result < 0 ? errno : 0; }

static int opened(Text path, int flags) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0) return errno;
  char byte = 'x';
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  const int result = outcome(writes ? write(file, &byte, 1) : read(file, &byte, 1));
  close(file);
  return result;
}

static int connected(int family, const void* address, socklen_t size) {
  const int endpoint = socket(family, SOCK_STREAM, 0);
  if (endpoint < 0) return errno;
  const int result = outcome(connect(endpoint, static_cast<const sockaddr*>(address), size));
  close(endpoint);
  return result;
}

static int tcp(Text port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(port)));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return connected(AF_INET, &address, sizeof address);
}

static int local(Text path, bool abstract) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + abstract, path.data(), path.size());
  return connected(AF_UNIX, &address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + abstract + path.size()));
}

// By the socket of a pair, which no call to socket() made.
static int datagram(Text path) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0) return errno;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  return outcome(sendto(pair[0], "x", 1, 0, reinterpret_cast<sockaddr*>(&address), size));
}

static int memory_of(Text process) {
  char byte;
  iovec mine{&byte, 1}, theirs{&byte, 1};
  return outcome(process_vm_readv(std::stoi(process), &mine, 1, &theirs, 1, 0));
}

static int limits_of(Text process) {
  const rlimit none{0, 0};
  return outcome(prlimit(std::stoi(process), RLIMIT_NOFILE, &none, nullptr));
}

static int program(const char* path) {
  char* none[] = {nullptr};
  return outcome(execve(path, none, none));
}

static int program_of_its_own(Text source) {
  const int from = open(source.c_str(), O_RDONLY), to = open("program", O_CREAT | O_WRONLY, 0700);
  char bytes[1 << 16];
  for (ssize_t size; (size = read(from, bytes, sizeof bytes)) > 0;)
    if (write(to, bytes, static_cast<size_t>(size)) < 0) return errno;
  close(to);
  return program("./program");
}

static int new_namespace(Text) {
  const long child = syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child == 0) _exit(0);
  return outcome(child);
}

static int event(Text) {
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  return outcome(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
}

static int calls(std::initializer_list<long> numbers) {  // with nothing but zeros: EPERM comes before anything is read
  for (const long number : numbers)
    if (syscall(number, 0, 0, 0, 0, 0, 0) >= 0 || errno != EPERM) return errno == EPERM ? 0 : errno;
  return EPERM;
}

static int everything_honest(Text) {
  int ends[2], pair[2], got = 0;
  if (pipe(ends) < 0 || write(ends[1], "x", 1) != 1) return errno;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || write(pair[0], "x", 1) != 1) return errno;
  if (eventfd(0, EFD_CLOEXEC) < 0) return errno;
  void* code = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED || mprotect(code, 4096, PROT_READ | PROT_EXEC) < 0) return errno;
  std::thread([&got] { got = 1; }).join();
  if (got != 1) return ECHILD;
  cpu_set_t cores;
  if (pthread_getaffinity_np(pthread_self(), sizeof cores, &cores) || pthread_setname_np(pthread_self(), "x")) return EIO;
  if (mkdir("folder", 0700) < 0 || opened("folder/file", O_CREAT | O_RDWR) || rename("folder/file", "file") < 0) return errno;
  if (truncate("nothing", 0) == 0) return EEXIST;
  const int file = open("file", O_RDWR | O_TRUNC);
  if (file < 0 || ftruncate(file, 10) < 0 || unlink("file") < 0 || rmdir("folder") < 0) return errno;
  for (const char* path : {"/proc/self/maps", "/proc/self/status", "/proc/cpuinfo", "/proc/meminfo", "/dev/urandom",
                           "/sys/devices/system/cpu/online", "/etc/ld.so.cache"})
    if (const int error = opened(path, O_RDONLY)) return std::printf("%s\n", path), error;
  if (const int error = opened("/dev/null", O_WRONLY)) return error;
  rlimit now{};
  if (getrlimit(RLIMIT_AS, &now) < 0) return errno;
  const pid_t child = fork();
  if (child == 0) _exit(7);
  int status = 0;
  if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7) return ECHILD;
  return 0;
}

static int deep_folders(Text) {
  const int start = open(".", O_RDONLY | O_DIRECTORY);
  if (mkdir("closed", 0) < 0 || symlink("/", "root") < 0) return errno;
  for (int i = 0; i < 1100; ++i)
    if (mkdir("deeper", 0700) < 0 || chdir("deeper") < 0) return errno;
  return outcome(fchdir(start));
}

static int open_descriptors(Text) {
  for (int i = 0; i < 1 << 16; ++i) {
    char path[64], target[4096]{};
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", i);
    if (fcntl(i, F_GETFD) >= 0 && readlink(path, target, sizeof target - 1) >= 0) std::printf("%d %s\n", i, target);
  }
  std::fflush(stdout);
  return 0;
}

static int listed(Text path) {
  DIR* folder = opendir(path.c_str());
  if (!folder) return errno;
  closedir(folder);
  return 0;
}

static const std::map<std::string, int (*)(Text)> kAttempts = {
    {"read", [](Text path) { return opened(path, O_RDONLY); }},
    {"list", listed},
    {"write", [](Text path) { return opened(path, O_WRONLY); }},
    {"create", [](Text path) { return opened(path, O_WRONLY | O_CREAT); }},
    {"truncate", [](Text path) { return outcome(truncate(path.c_str(), 0)); }},
    {"truncate while reading", [](Text path) { return opened(path, O_RDONLY | O_TRUNC); }},
    {"remove", [](Text path) { return outcome(unlink(path.c_str())); }},
    {"make a folder", [](Text path) { return outcome(mkdir(path.c_str(), 0700)); }},
    {"make a link to nowhere", [](Text path) { return outcome(symlink("/", path.c_str())); }},
    {"take into the scratch folder", [](Text path) { return outcome(rename(path.c_str(), "taken")); }},
    {"link into the scratch folder", [](Text path) { return outcome(link(path.c_str(), "linked")); }},
    {"read through a link of its own", [](Text path) { return symlink(path.c_str(), "way") < 0 ? errno : opened("way", O_RDONLY); }},
    {"change its mode", [](Text path) { return outcome(chmod(path.c_str(), 0777)); }},
    {"change its owner", [](Text path) { return outcome(chown(path.c_str(), 1, 1)); }},
    {"change its times", [](Text path) { return outcome(utimensat(AT_FDCWD, path.c_str(), nullptr, 0)); }},
    {"set an attribute", [](Text path) { return outcome(setxattr(path.c_str(), "user.x", "y", 1, 0)); }},
    {"connect by TCP", tcp},
    {"connect to an abstract socket", [](Text name) { return local(name, true); }},
    {"connect to a socket in a folder", [](Text path) { return local(path, false); }},
    {"send a datagram to a socket in a folder", datagram},
    {"trace", [](Text process) { return outcome(ptrace(PTRACE_ATTACH, std::stoi(process), nullptr, nullptr)); }},
    {"read the memory of", memory_of},
    {"limit", limits_of},
    {"signal", [](Text process) { return outcome(kill(std::stoi(process), 0)); }},
    {"trace its parent", [](Text) { return outcome(ptrace(PTRACE_ATTACH, getppid(), nullptr, nullptr)); }},
    {"read the memory of its parent", [](Text) { return memory_of(std::to_string(getppid())); }},
    {"limit its parent", [](Text) { return limits_of(std::to_string(getppid())); }},
    {"kill everything", [](Text) { return outcome(kill(-1, SIGKILL)); }},
    {"run a program", [](Text path) { return program(path.c_str()); }},
    {"run a program of its own", program_of_its_own},
    {"make a file in memory", [](Text) { return outcome(memfd_create("x", 0)); }},
    {"unshare", [](Text) { return outcome(unshare(CLONE_NEWUSER)); }},
    {"clone into a new namespace", new_namespace},
    {"mount", [](Text) { return outcome(mount("x", "/tmp", "tmpfs", 0, nullptr)); }},
    {"count events of the processor", event},
    {"leave memory behind", [](Text) { return outcome(shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600)); }},
    {"change personality", [](Text) { return outcome(syscall(SYS_personality, 0x0040000L)); }},
    {"filter itself", [](Text) { return outcome(prctl(PR_SET_SECCOMP, 2, 0, 0, 0)); }},
    {"type into a terminal", [](Text) { char c = 'x'; return outcome(ioctl(0, TIOCSTI, &c)); }},
    {"make a call that is newer than our table", [](Text) { return outcome(syscall(600, 0, 0, 0)); }},
    {"enter the kernel otherwise", [](Text) { return calls({SYS_bpf, SYS_userfaultfd, 425, 426, 427, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_kexec_load, SYS_init_module, SYS_setns, SYS_reboot, SYS_pivot_root}); }},
    {"do what honest code does", everything_honest},
    {"make folders in folders", deep_folders},
    {"show open descriptors", open_descriptors},
};

PYBIND11_MODULE(escapes, m) {
  m.def("forward", [](const py::object& text, std::size_t number) -> py::object {
    std::string words;
    for (const auto& byte : py::list(text.attr("tolist")())) words += static_cast<char>(byte.cast<int>());
    errno = 0;
    const int error = std::next(kAttempts.begin(), static_cast<long>(number))->second(words);
    return text.attr("new_full")(py::make_tuple(1), error);
  });
}
