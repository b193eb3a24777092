// One extension whose entry point does, by name, what candidates must be able to do without harm to anyone else.
#include <fcntl.h>
#include <pybind11/pybind11.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace py = pybind11;

static py::object doubled(const py::object& x) { return x.attr("mul")(2); }

static void daemon_that_waits() {
  if (fork() == 0) {
    setsid();
    if (fork() == 0) {
      setsid();
      for (;;) pause();
    }
    _exit(0);
  }
}

static py::object print_megabytes(const py::object& x) {
  std::puts("the first line");
  const std::string line(1 << 20, 'x');
  for (int i = 0; i < 10; ++i) std::puts(line.c_str());
  std::puts("the last line");
  std::fflush(stdout);
  return doubled(x);
}

static py::object print_for_ever(const py::object&) {
  for (;;) std::puts("still here");
}

static py::object allocate_for_ever(const py::object&) {
  std::vector<std::string> kept;
  for (;;) kept.emplace_back(std::size_t{64} << 20, 'x');
}

static py::object allocate_in_children(const py::object&) {
  for (int i = 0; i < 8; ++i) {
    if (fork() == 0) {
      const std::string kept(std::size_t{200} << 20, 'x');
      for (;;) pause();
    }
  }
  for (;;) pause();
}

static py::object write_to_every_descriptor(const py::object& x) {
  for (int descriptor = 3; descriptor < 256; ++descriptor) {
    struct stat facts {};
    if (fstat(descriptor, &facts) == 0 && write(descriptor, "{\"outcome\": \"passed\"}", 21) < 0) continue;
  }
  return doubled(x);
}

// A frame that claims a terabyte of tensors.
static py::object claim_too_much(const py::object& x) {
  const std::string header =
      R"({"nonce":"","outcome":"passed","reason":null,"outputs":[{"dtype":"float32","shape":[274877906944],)"
      R"("strides":[1]}],"inputs_after":[null],"findings":[],"launches":[]})";
  const auto size = static_cast<unsigned>(header.size());
  std::string frame = "kevo";
  for (int i = 0; i < 4; ++i) frame += static_cast<char>(size >> (8 * i) & 255);
  frame += header;
  for (int descriptor = 3; descriptor < 256; ++descriptor) send(descriptor, frame.data(), frame.size(), MSG_NOSIGNAL);
  return doubled(x);
}

static py::object open_for_ever(const py::object&) {
  for (;;)
    if (open("/dev/null", O_RDONLY) < 0) throw std::runtime_error("no more files");
}

static py::object write_for_ever(const py::object&) {
  const int file = open("large", O_CREAT | O_WRONLY, 0600);
  const std::string data(1 << 20, 'x');
  for (;;)
    if (write(file, data.data(), data.size()) < 0) throw std::runtime_error("no more room");
}

static const std::map<std::string, py::object (*)(const py::object&)> kBehaviours = {
    {"double", doubled},
    {"exit with 0", [](const py::object&) -> py::object { std::exit(0); }},
    {"exit at once with 3", [](const py::object&) -> py::object { _exit(3); }},
    {"abort", [](const py::object&) -> py::object { std::abort(); }},
    {"write to address 16", [](const py::object& x) { return *reinterpret_cast<volatile int*>(16) = 1, x; }},
    {"divide by zero", [](const py::object& x) { raise(SIGFPE); return x; }},
    {"loop for ever", [](const py::object& x) { for (volatile bool go = true; go;) {} return x; }},
    {"work for 0.6 s", [](const py::object& x) { timespec ran{}; do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran); while (ran.tv_sec == 0 && ran.tv_nsec < 600'000'000); return doubled(x); }},
    {"sleep", [](const py::object& x) { sleep(1000); return x; }},
    {"stop itself", [](const py::object& x) { raise(SIGSTOP); return x; }},
    {"throw", [](const py::object&) -> py::object { throw std::runtime_error("no such size\nand more"); }},
    {"throw a number", [](const py::object&) -> py::object { throw 7; }},
    {"throw in a thread", [](const py::object& x) { std::thread([] { throw std::runtime_error("lost"); }).join(); return x; }},
    {"exit from Python", [](const py::object&) -> py::object { py::module_::import("sys").attr("exit")(0); return {}; }},
    {"leave children", [](const py::object& x) { for (int i = 0; i < 4; ++i) if (fork() == 0) for (;;) pause(); return doubled(x); }},
    {"leave a daemon and return", [](const py::object& x) { daemon_that_waits(); return doubled(x); }},
    {"leave a daemon and exit", [](const py::object& x) { daemon_that_waits(); _exit(0); return x; }},
    {"leave a daemon and hang", [](const py::object& x) { daemon_that_waits(); for (;;) pause(); return x; }},
    {"leave threads", [](const py::object& x) { for (int i = 0; i < 3; ++i) std::thread([] { for (;;) pause(); }).detach(); return doubled(x); }},
    {"start a thread of the pool", [](const py::object& x) { std::thread([] { pthread_setname_np(pthread_self(), "pool-1"); for (;;) pause(); }).detach(); usleep(300000); return doubled(x); }},
    {"start a child and wait for it", [](const py::object& x) { const pid_t child = fork(); if (child == 0) _exit(0); waitpid(child, nullptr, 0); return doubled(x); }},
    {"start threads for ever", [](const py::object& x) { for (;;) std::thread([] { for (;;) pause(); }).detach(); return x; }},
    {"daemons for ever", [](const py::object& x) { for (;;) daemon_that_waits(); return x; }},
    {"allocate 32 GB", [](const py::object& x) { std::string(std::size_t{32} << 30, 'x'); return x; }},
    {"fork for ever", [](const py::object& x) { for (;;) fork(); return x; }},
    {"kill everything", [](const py::object& x) { kill(getppid(), SIGKILL); kill(1, SIGKILL); kill(-1, SIGKILL); return doubled(x); }},
    {"stop its parent", [](const py::object& x) { kill(getppid(), SIGSTOP); for (;;) pause(); return x; }},
    {"close every descriptor", [](const py::object& x) { for (int i = 0; i < 1024; ++i) close(i); return x; }},
    {"print 10 MB", print_megabytes},
    {"print for ever", print_for_ever},
    {"allocate for ever", allocate_for_ever},
    {"allocate in children", allocate_in_children},
    {"write to every descriptor", write_to_every_descriptor},
    {"claim too much", claim_too_much},
    {"open for ever", open_for_ever},
    {"write for ever", write_for_ever},
    {"return a string", [](const py::object&) -> py::object { return py::str("hello"); }},
    {"return nothing", [](const py::object&) -> py::object { return py::none(); }},
    {"return its input", [](const py::object& x) { return x; }},
    {"return a view of its input", [](const py::object& x) -> py::object { return x.attr("t")(); }},
    {"return one tensor twice", [](const py::object& x) -> py::object { auto y = doubled(x); return py::make_tuple(y, y); }},
    {"return the same tensor every time", [](const py::object& x) -> py::object { static auto* y = new py::object(doubled(x)); return *y; }},
    {"change its input", [](const py::object& x) { x.attr("add_")(1); return doubled(x); }},
    {"return a transposed tensor", [](const py::object& x) -> py::object { return doubled(x).attr("t")(); }},
    {"return a broadcast tensor", [](const py::object& x) -> py::object { return x.attr("new_ones")(1).attr("expand")(5); }},
    {"return a scalar and an empty tensor", [](const py::object& x) -> py::object { return py::make_tuple(x.attr("sum")(), x.attr("new_empty")(0)); }},
    {"return NaN in half precision", [](const py::object& x) -> py::object { return x.attr("mul")(NAN).attr("bfloat16")(); }},
    {"turn on determinism", [](const py::object& x) { py::module_::import("torch").attr("use_deterministic_algorithms")(true); return doubled(x); }},
    {"show the environment", [](const py::object& x) { for (char** entry = environ; *entry; ++entry) std::puts(*entry); std::fflush(stdout); return doubled(x); }},
    {"show the working folder", [](const py::object& x) { char path[4096]; std::puts(getcwd(path, sizeof path)); std::fflush(stdout); return doubled(x); }},
};

PYBIND11_MODULE(behaviours, m) {
  // Behaviours are numbered in alphabetical order: the channel carries numbers, not text.
  m.def("forward", [](const py::object& x, std::size_t number) { return std::next(kBehaviours.begin(), static_cast<long>(number))->second(x); });
}
