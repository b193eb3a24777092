// Layout: observed in objects of nvcc 12 and 13, and described by cuobjdump-like open tools. The wrapper is
// { u32 magic 0x466243b1, u32 version, const void* container, ... }; the container is { u32 magic 0xba55ed50,
// u16 version, u16 header size, u64 bytes after the header }, followed by entries { u16 kind (1: PTX, 2: cubin), u16, u32
// header size, u64 payload size, ... }.

#include "fatbin.h"

#include <cstdint>
#include <cstring>

namespace kernelevo::runtime {
namespace {

constexpr std::uint32_t kWrapperMagic = 0x466243b1;
constexpr std::uint32_t kContainerMagic = 0xba55ed50;
constexpr std::uint16_t kPtx = 1;

struct Wrapper {
  std::uint32_t magic;
  std::uint32_t version;
  const std::uint8_t* container;
};

template <typename T>
T read(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

bool is_ptx_text(const std::uint8_t* begin, std::size_t size) {
  return size > 8 && memmem(begin, size < 4096 ? size : 4096, ".version", 8) != nullptr;
}

}  // namespace

FatBinary read_fat_binary(const void* wrapper) {
  Wrapper w;
  std::memcpy(&w, wrapper, sizeof w);
  if (w.magic != kWrapperMagic || w.container == nullptr) return {"", "unknown fat binary wrapper"};
  if (read<std::uint32_t>(w.container) != kContainerMagic) return {"", "unknown fat binary container"};
  const std::uint8_t* at = w.container + read<std::uint16_t>(w.container + 6);
  const std::uint8_t* end = at + read<std::uint64_t>(w.container + 8);
  bool compressed = false;
  while (at + 16 <= end) {
    auto kind = read<std::uint16_t>(at);
    auto header_size = read<std::uint32_t>(at + 4);
    auto payload_size = read<std::uint64_t>(at + 8);
    const std::uint8_t* payload = at + header_size;
    if (header_size < 16 || payload_size > static_cast<std::uint64_t>(end - payload)) break;
    if (kind == kPtx) {
      if (is_ptx_text(payload, payload_size)) {
        auto length = strnlen(reinterpret_cast<const char*>(payload), payload_size);
        return {std::string(reinterpret_cast<const char*>(payload), length), ""};
      }
      compressed = true;
    }
    at = payload + payload_size;
  }
  return {"", compressed ? "its PTX is compressed; build with nvcc -no-compress"
                         : "it holds no PTX; build with nvcc -gencode arch=compute_90,code=compute_90"};
}

}  // namespace kernelevo::runtime
