#include "print.h"

#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>

namespace kernelevo {
namespace {

template <class T>
T take(const char*& at) {
  auto address = (reinterpret_cast<uintptr_t>(at) + sizeof(T) - 1) & ~(sizeof(T) - 1);
  T value;
  std::memcpy(&value, reinterpret_cast<const void*>(address), sizeof value);
  at = reinterpret_cast<const char*>(address + sizeof value);
  return value;
}

template <class... T>
void append(std::string& out, const std::string& spec, T... values) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
  int size = std::snprintf(nullptr, 0, spec.c_str(), values...);
  if (size <= 0) return;
  std::string piece(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(piece.data(), piece.size(), spec.c_str(), values...);
#pragma GCC diagnostic pop
  out.append(piece, 0, static_cast<size_t>(size));
}

}  // namespace

int32_t device_printf(const char* format, const char* arguments) {
  std::string out;
  int32_t count = 0;
  for (const char* p = format; *p;) {
    if (*p != '%') {
      out += *p++;
      continue;
    }
    if (p[1] == '%') {
      out += '%';
      p += 2;
      continue;
    }
    std::string spec = "%";
    for (p++; *p && std::strchr("-+ #0123456789.*", *p); p++) {
      if (*p == '*') {
        spec += std::to_string(take<int32_t>(arguments));
      } else {
        spec += *p;
      }
    }
    int longs = 0;
    for (; *p && std::strchr("hljztL", *p); p++) {
      if (*p == 'l' || *p == 'j' || *p == 'z' || *p == 't') longs++;
    }
    if (!*p) break;
    char conversion = *p++;
    count++;
    if (std::strchr("diouxXc", conversion)) {
      if (longs) {
        append(out, spec + "ll" + conversion, take<long long>(arguments));
      } else {
        append(out, spec + conversion, take<int32_t>(arguments));
      }
    } else if (std::strchr("eEfFgGaA", conversion)) {
      append(out, spec + conversion, take<double>(arguments));
    } else if (conversion == 's') {
      append(out, spec + conversion, take<const char*>(arguments));
    } else if (conversion == 'p') {
      append(out, spec + conversion, take<void*>(arguments));
    } else {
      out += spec + conversion;
    }
  }
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
  return count;
}

void describe_assertion(int64_t arguments, char* text, size_t size) {
  const auto* values = reinterpret_cast<const uint64_t*>(arguments);
  std::snprintf(text, size, "%s:%u: %s: assertion `%s' failed", reinterpret_cast<const char*>(values[1]),
                static_cast<unsigned>(values[2]), reinterpret_cast<const char*>(values[3]),
                reinterpret_cast<const char*>(values[0]));
}

}  // namespace kernelevo
