// Device memory: host memory with a redzone of known bytes on both sides of every allocation, filled with poison
// when it is made. One registry for torch tensors, cudaMalloc, pinned and managed memory.
// Gives allocation, release, look-up by address, and what was written outside. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "errors.h"

namespace kernelevo::runtime {

enum class Origin { kTensor, kDevice, kPinned, kManaged, kModule, kHeap };

struct Allocation {
  std::uint64_t number = 0;  // in order of allocation, from 1
  std::uintptr_t address = 0;
  std::size_t size = 0;  // bytes, as asked for
  Origin origin = Origin::kDevice;
};

// A write where nothing may be written: next to an allocation or into a released one.
struct Overrun {
  Allocation allocation;
  std::ptrdiff_t offset = 0;  // of the first damaged byte, from the allocation's first byte
  std::size_t bytes = 0;      // damaged bytes found on that side
  bool after_release = false;
};

// Aligned to 512 bytes. nullptr when the limit is reached or the machine has no memory left; size 0 gives a valid
// pointer to no bytes. Released memory counts until no stream can use it; where it is in the way, the streams' work
// runs first.
KERNELEVO_API void* allocate(std::size_t size, Origin origin) noexcept;

// False when `pointer` is not the first byte of a live allocation. The memory is given back only when no stream
// has work left that could use it.
KERNELEVO_API bool release(void* pointer) noexcept;

// The live allocation that `pointer` points into (its end excluded; the first byte of an empty one included).
KERNELEVO_API std::optional<Allocation> find_allocation(const void* pointer);

// Where an address lies in words, for messages: "4 bytes past the end of a tensor of 40 bytes", "a null pointer".
std::string describe_address(std::uintptr_t address);

// What an allocation is called in messages.
const char* word_for(Origin origin);

// Makes memory that somebody else owns (a module's global variables) known to look-ups, without redzones.
void adopt(void* pointer, std::size_t size, Origin origin);
void abandon(void* pointer);

// --- for checked launches

// From now on it is known of fresh device memory which of its bytes were written.
void set_tracking(bool on);

// The host has written bytes of device memory, or all of an allocation. Without tracking: nothing happens.
KERNELEVO_API void mark_written(const void* pointer, std::size_t size);
KERNELEVO_API void mark_all_written(const void* pointer);

// What messages call the live allocation that starts at `pointer`.
void set_name(const void* pointer, std::string name);

// Everything a kernel may touch or might touch by mistake: live and lately released memory.
struct KnownMemory {
  Allocation allocation;
  std::uintptr_t room_begin = 0;  // with redzones: no other memory's bytes are here
  std::uintptr_t room_end = 0;
  bool released = false;
  std::uint8_t* written = nullptr;  // a byte per byte, 0: nobody wrote it; null: taken as written
  std::string name;                 // given by set_name; empty: none
};

// In ascending order of address.
std::vector<KnownMemory> known_memory();

// Changes whenever memory is made or given back.
std::uint64_t memory_version();

// Byte that fresh memory is filled with.
KERNELEVO_API void set_poison(std::uint8_t byte);

// Most bytes that may be live at once.
KERNELEVO_API void set_memory_limit(std::size_t bytes);
KERNELEVO_API std::size_t memory_limit();
KERNELEVO_API std::size_t live_bytes();
KERNELEVO_API std::size_t peak_bytes();

// Every overrun found since the last call, in live and released memory. Each damaged redzone is reported once.
std::vector<Overrun> take_overruns();

std::vector<Allocation> live_allocations();

// Gives released memory back to the machine; called when no stream has work left.
void collect_released();

}  // namespace kernelevo::runtime
