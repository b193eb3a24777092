// The memory that a checked launch may touch, as it was when the launch began: live allocations, those released of late, module
// variables. Gives what an address is inside of, or next to. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kernelevo {

// Memory that is not in the registry of allocations: module variables, parameters.
struct MemoryRange {
  uint64_t address = 0;
  uint64_t size = 0;
  bool writable = true;
  std::string name;  // in messages, without its size
};

struct KnownRange {
  uint64_t begin = 0, end = 0;            // the memory itself
  uint64_t room_begin = 0, room_end = 0;  // with redzones
  bool released = false;
  bool writable = true;
  uint8_t* written = nullptr;  // a byte per byte; null: all count as written
  std::string name;            // in messages, with its size
};

struct Lookup {
  enum class Kind : uint8_t { inside, outside, released, null, nowhere };
  Kind kind = Kind::nowhere;
  const KnownRange* range = nullptr;  // inside, released: the one; outside: the nearest
};

class DeviceMemory {
 public:
  explicit DeviceMemory(std::vector<MemoryRange> others);

  Lookup find(uint64_t address, uint64_t bytes);

 private:
  void read_registry();

  std::vector<MemoryRange> others_;
  std::vector<KnownRange> ranges_;  // in ascending order of begin
  uint64_t version_ = 0;
};

}  // namespace kernelevo
