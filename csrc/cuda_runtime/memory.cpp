// cudaMalloc, cudaMemcpy, cudaMemset and their relatives over the allocation registry.
//
// Pageable host memory is copied at once, after the stream's earlier work, as CUDA does by staging; device and pinned
// memory is copied when the stream gets there. A device address must lie in a live allocation with room enough.

#include <cstring>

#include "allocations.h"
#include "copied.h"
#include "device.h"
#include "errors.h"
#include "modules.h"
#include "streams.h"

using namespace kernelevo::runtime;

namespace {

cudaError_t make(void** pointer, std::size_t size, Origin origin) {
  if (pointer == nullptr) return set_error(cudaErrorInvalidValue);
  *pointer = nullptr;
  if (size == 0) return set_error(cudaSuccess);
  *pointer = allocate(size, origin);
  return set_error(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

// Frees after the device is idle, as cudaFree does.
cudaError_t destroy(void* pointer) {
  if (pointer == nullptr) return set_error(cudaSuccess);
  if (cudaError_t error = drain_all(); error != cudaSuccess) return set_error(error);
  return set_error(release(pointer) ? cudaSuccess : cudaErrorInvalidValue);
}

bool has_room(const void* pointer, std::size_t count) {
  auto allocation = find_allocation(pointer);
  if (!allocation) return false;
  return reinterpret_cast<std::uintptr_t>(pointer) - allocation->address + count <= allocation->size;
}

bool is_pageable(const void* pointer) { return !find_allocation(pointer).has_value(); }

Side side_of(const void* pointer) {
  auto found = find_allocation(pointer);
  if (!found || found->origin == Origin::kPinned) return Side::kHost;
  return found->origin == Origin::kManaged ? Side::kBoth : Side::kDevice;
}

void mark_rows_written(const void* pointer, std::size_t pitch, std::size_t width, std::size_t height) {
  if (pitch == width) return mark_written(pointer, width * height);
  for (std::size_t row = 0; row < height; ++row) mark_written(static_cast<const char*>(pointer) + row * pitch, width);
}

// One rectangle of `height` rows of `width` bytes; a plain copy has one row.
struct Copy {
  void* to;
  std::size_t to_pitch;
  const void* from;
  std::size_t from_pitch;
  std::size_t width;
  std::size_t height;

  std::size_t to_extent() const { return (height - 1) * to_pitch + width; }
  std::size_t from_extent() const { return (height - 1) * from_pitch + width; }

  void run() const {
    for (std::size_t row = 0; row < height; ++row)
      std::memmove(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
    mark_rows_written(to, to_pitch, width, height);
  }
};

enum class Wait { kNo, kYes };

cudaError_t copy(const Copy& c, cudaMemcpyKind kind, cudaStream_t stream, Wait wait) {
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return set_error(cudaErrorInvalidMemcpyDirection);
  if (c.width > c.to_pitch || c.width > c.from_pitch) return set_error(cudaErrorInvalidPitchValue);
  if (c.width == 0 || c.height == 0) return set_error(check_stream(stream));
  if (c.to == nullptr || c.from == nullptr) return set_error(cudaErrorInvalidValue);
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  bool to_pageable = is_pageable(c.to);
  bool from_pageable = is_pageable(c.from);
  if ((to_device || !to_pageable) && !has_room(c.to, c.to_extent())) return set_error(cudaErrorInvalidValue);
  if ((from_device || !from_pageable) && !has_room(c.from, c.from_extent())) return set_error(cudaErrorInvalidValue);
  count_copy(side_of(c.from), side_of(c.to), c.width * c.height);
  if (cudaError_t error = enqueue(stream, "copy", [c] {
        c.run();
        return cudaSuccess;
      });
      error != cudaSuccess)
    return set_error(error);
  bool now = wait == Wait::kYes || to_pageable || from_pageable;
  return set_error(now ? drain(stream) : cudaSuccess);
}

cudaError_t copy_bytes(void* to, const void* from, std::size_t count, cudaMemcpyKind kind, cudaStream_t stream,
                       Wait wait) {
  return copy({to, count, from, count, count, 1}, kind, stream, wait);
}

cudaError_t fill(void* pointer, std::size_t pitch, int value, std::size_t width, std::size_t height,
                 cudaStream_t stream) {
  if (width > pitch) return set_error(cudaErrorInvalidPitchValue);
  if (width == 0 || height == 0) return set_error(check_stream(stream));
  if (!has_room(pointer, (height - 1) * pitch + width)) return set_error(cudaErrorInvalidValue);
  return set_error(enqueue(stream, "fill", [=] {
    for (std::size_t row = 0; row < height; ++row) std::memset(static_cast<char*>(pointer) + row * pitch, value, width);
    mark_rows_written(pointer, pitch, width, height);
    return cudaSuccess;
  }));
}

cudaError_t copy_symbol(const void* symbol, std::size_t offset, std::size_t count, void* other, bool to_symbol,
                        cudaMemcpyKind kind, cudaStream_t stream, Wait wait) {
  Variable variable;
  if (cudaError_t error = find_variable(symbol, &variable); error != cudaSuccess) return set_error(error);
  if (offset > variable.size || count > variable.size - offset) return set_error(cudaErrorInvalidValue);
  char* inside = static_cast<char*>(variable.address) + offset;
  return to_symbol ? copy_bytes(inside, other, count, kind, stream, wait)
                   : copy_bytes(other, inside, count, kind, stream, wait);
}

}  // namespace

extern "C" {

KERNELEVO_API cudaError_t cudaMalloc(void** pointer, std::size_t size) { return make(pointer, size, Origin::kDevice); }

KERNELEVO_API cudaError_t cudaFree(void* pointer) { return destroy(pointer); }

KERNELEVO_API cudaError_t cudaMallocAsync(void** pointer, std::size_t size, cudaStream_t stream) {
  if (cudaError_t error = check_stream(stream); error != cudaSuccess) return set_error(error);
  return make(pointer, size, Origin::kDevice);
}

// In stream order: earlier work of the stream may still use the memory.
KERNELEVO_API cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  if (pointer == nullptr) return set_error(check_stream(stream));
  if (!find_allocation(pointer)) return set_error(cudaErrorInvalidValue);
  return set_error(enqueue(stream, "free", [pointer] {
    release(pointer);
    return cudaSuccess;
  }));
}

KERNELEVO_API cudaError_t cudaMallocPitch(void** pointer, std::size_t* pitch, std::size_t width, std::size_t height) {
  if (pitch == nullptr) return set_error(cudaErrorInvalidValue);
  *pitch = (width + 511) / 512 * 512;
  return make(pointer, *pitch * height, Origin::kDevice);
}

KERNELEVO_API cudaError_t cudaMallocManaged(void** pointer, std::size_t size, unsigned /*flags*/) {
  return make(pointer, size, Origin::kManaged);
}

KERNELEVO_API cudaError_t cudaHostAlloc(void** pointer, std::size_t size, unsigned /*flags*/) {
  return make(pointer, size, Origin::kPinned);
}

KERNELEVO_API cudaError_t cudaMallocHost(void** pointer, std::size_t size) {
  return make(pointer, size, Origin::kPinned);
}

KERNELEVO_API cudaError_t cudaFreeHost(void* pointer) { return destroy(pointer); }

KERNELEVO_API cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned /*flags*/) {
  if (device == nullptr) return set_error(cudaErrorInvalidValue);
  *device = host;  // unified addressing
  return set_error(find_allocation(host) ? cudaSuccess : cudaErrorInvalidValue);
}

KERNELEVO_API cudaError_t cudaHostRegister(void* pointer, std::size_t size, unsigned /*flags*/) {
  if (pointer == nullptr || size == 0) return set_error(cudaErrorInvalidValue);
  if (find_allocation(pointer)) return set_error(cudaErrorHostMemoryAlreadyRegistered);
  adopt(pointer, size, Origin::kPinned);
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaHostUnregister(void* pointer) {
  if (!find_allocation(pointer)) return set_error(cudaErrorHostMemoryNotRegistered);
  abandon(pointer);
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  if (attributes == nullptr) return set_error(cudaErrorInvalidValue);
  *attributes = {};
  auto allocation = find_allocation(pointer);
  void* address = const_cast<void*>(pointer);
  if (!allocation) {
    attributes->device = -2;  // cudaInvalidDeviceId, as for memory CUDA does not know
    attributes->hostPointer = address;
    return set_error(cudaSuccess);
  }
  attributes->type = allocation->origin == Origin::kPinned    ? cudaMemoryTypeHost
                     : allocation->origin == Origin::kManaged ? cudaMemoryTypeManaged
                                                              : cudaMemoryTypeDevice;
  attributes->devicePointer = address;
  attributes->hostPointer = attributes->type == cudaMemoryTypeDevice ? nullptr : address;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaMemcpy(void* to, const void* from, std::size_t count, cudaMemcpyKind kind) {
  return copy_bytes(to, from, count, kind, nullptr, Wait::kYes);
}

KERNELEVO_API cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t count, cudaMemcpyKind kind,
                                          cudaStream_t stream) {
  return copy_bytes(to, from, count, kind, stream, Wait::kNo);
}

KERNELEVO_API cudaError_t cudaMemcpy2D(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                                       std::size_t width, std::size_t height, cudaMemcpyKind kind) {
  return copy({to, to_pitch, from, from_pitch, width, height}, kind, nullptr, Wait::kYes);
}

KERNELEVO_API cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                                            std::size_t width, std::size_t height, cudaMemcpyKind kind,
                                            cudaStream_t stream) {
  return copy({to, to_pitch, from, from_pitch, width, height}, kind, stream, Wait::kNo);
}

KERNELEVO_API cudaError_t cudaMemset(void* pointer, int value, std::size_t count) {
  return fill(pointer, count, value, count, 1, nullptr);
}

KERNELEVO_API cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t count, cudaStream_t stream) {
  return fill(pointer, count, value, count, 1, stream);
}

KERNELEVO_API cudaError_t cudaMemset2D(void* pointer, std::size_t pitch, int value, std::size_t width,
                                       std::size_t height) {
  return fill(pointer, pitch, value, width, height, nullptr);
}

KERNELEVO_API cudaError_t cudaMemset2DAsync(void* pointer, std::size_t pitch, int value, std::size_t width,
                                            std::size_t height, cudaStream_t stream) {
  return fill(pointer, pitch, value, width, height, stream);
}

KERNELEVO_API cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, std::size_t count,
                                             std::size_t offset, cudaMemcpyKind kind) {
  return copy_symbol(symbol, offset, count, const_cast<void*>(from), true, kind, nullptr, Wait::kYes);
}

KERNELEVO_API cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* from, std::size_t count,
                                                  std::size_t offset, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_symbol(symbol, offset, count, const_cast<void*>(from), true, kind, stream, Wait::kNo);
}

KERNELEVO_API cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, std::size_t count, std::size_t offset,
                                               cudaMemcpyKind kind) {
  return copy_symbol(symbol, offset, count, to, false, kind, nullptr, Wait::kYes);
}

KERNELEVO_API cudaError_t cudaMemcpyFromSymbolAsync(void* to, const void* symbol, std::size_t count,
                                                    std::size_t offset, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_symbol(symbol, offset, count, to, false, kind, stream, Wait::kNo);
}

KERNELEVO_API cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) {
  if (address == nullptr) return set_error(cudaErrorInvalidValue);
  Variable variable;
  if (cudaError_t error = find_variable(symbol, &variable); error != cudaSuccess) return set_error(error);
  *address = variable.address;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaGetSymbolSize(std::size_t* size, const void* symbol) {
  if (size == nullptr) return set_error(cudaErrorInvalidValue);
  Variable variable;
  if (cudaError_t error = find_variable(symbol, &variable); error != cudaSuccess) return set_error(error);
  *size = variable.size;
  return set_error(cudaSuccess);
}
}
