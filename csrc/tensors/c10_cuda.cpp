// What libc10_cuda gives on a machine with a GPU, as far as candidates and torch's CUDA guard call it: devices (one),
// streams, error checks. A stream's id is its cudaStream_t, 0 for the default stream.

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <array>
#include <mutex>
#include <string>

namespace c10::cuda {

namespace {

constexpr int kStreamsPerPool = 32;
constexpr int kPriorities = max_compile_time_stream_priorities;

thread_local StreamId current_stream = 0;

struct Pools {
  std::mutex mutex;
  std::array<std::array<cudaStream_t, kStreamsPerPool>, kPriorities> streams{};
  std::array<unsigned, kPriorities> next{};
};

Pools& pools() {
  static auto* instance = new Pools;
  return *instance;
}

CUDAStream stream_of(StreamId id) {
  return CUDAStream(CUDAStream::UNCHECKED, Stream(Stream::UNSAFE, Device(kCUDA, 0), id));
}

void check_device(DeviceIndex device) {
  TORCH_CHECK(device == 0 || device == -1, "CUDA error: invalid device ordinal: ", static_cast<int>(device),
              "; the emulator has one device");
}

}  // namespace

DeviceIndex device_count() noexcept { return 1; }
DeviceIndex device_count_ensure_non_zero() { return 1; }
DeviceIndex current_device() { return 0; }
void set_device(DeviceIndex device, const bool) { check_device(device); }
void device_synchronize() { C10_CUDA_CHECK(cudaDeviceSynchronize()); }
void warn_or_error_on_sync() {
  TORCH_CHECK(warning_state().get_sync_debug_mode() != SyncDebugMode::L_ERROR, "called a synchronizing CUDA operation");
  TORCH_WARN("called a synchronizing CUDA operation");
}

cudaError_t GetDeviceCount(int* count) { return cudaGetDeviceCount(count); }
cudaError_t GetDevice(DeviceIndex* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t SetDevice(DeviceIndex device, const bool) { return cudaSetDevice(device); }
cudaError_t MaybeSetDevice(DeviceIndex device) { return cudaSetDevice(device); }
DeviceIndex ExchangeDevice(DeviceIndex device) {
  check_device(device);
  return 0;
}
DeviceIndex MaybeExchangeDevice(DeviceIndex device) {
  check_device(device);
  return 0;
}
void SetTargetDevice() {}
bool hasPrimaryContext(DeviceIndex device) { return device == 0; }
std::optional<DeviceIndex> getDeviceIndexWithPrimaryContext() { return 0; }

cudaStream_t CUDAStream::stream() const { return reinterpret_cast<cudaStream_t>(stream_.id()); }

bool CUDAStream::query() const {
  cudaError_t error = cudaStreamQuery(stream());
  if (error == cudaErrorNotReady) {
    (void)cudaGetLastError();  // an answer, not an error
    return false;
  }
  C10_CUDA_CHECK(error);
  return true;
}

void CUDAStream::synchronize() const { stream_synchronize(stream()); }

CUDAStream getDefaultCUDAStream(DeviceIndex device) {
  check_device(device);
  return stream_of(0);
}

CUDAStream getCurrentCUDAStream(DeviceIndex device) {
  check_device(device);
  return stream_of(current_stream);
}

void setCurrentCUDAStream(CUDAStream stream) { current_stream = stream.id(); }

CUDAStream getStreamFromPool(const int priority, DeviceIndex device) {
  check_device(device);
  TORCH_CHECK(priority <= 0, "Expected cuda stream priority to be less than or equal to 0, got ", priority);
  auto pool = static_cast<std::size_t>(std::min(-priority, kPriorities - 1));
  Pools& p = pools();
  std::lock_guard lock(p.mutex);
  cudaStream_t& stream = p.streams[pool][p.next[pool]++ % kStreamsPerPool];
  if (stream == nullptr)
    C10_CUDA_CHECK(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, -static_cast<int>(pool)));
  return stream_of(reinterpret_cast<StreamId>(stream));
}

CUDAStream getStreamFromPool(const bool high_priority, DeviceIndex device) {
  return getStreamFromPool(high_priority ? -kPriorities + 1 : 0, device);
}

CUDAStream getStreamFromExternal(cudaStream_t stream, DeviceIndex device) {
  check_device(device);
  return stream_of(reinterpret_cast<StreamId>(stream));
}

std::ostream& operator<<(std::ostream& out, const CUDAStream& stream) { return out << stream.unwrap(); }

std::string get_cuda_error_help(cudaError_t) noexcept { return ""; }
const char* get_cuda_check_suffix() noexcept { return ""; }
const char* get_cuda_async_error_suffix(cudaError_t) noexcept { return ""; }
std::mutex* getFreeMutex() {
  static auto* mutex = new std::mutex;
  return mutex;
}

void c10_cuda_check_implementation(const int32_t err, const char* filename, const char* function_name,
                                   const uint32_t line_number, const bool) {
  auto error = static_cast<cudaError_t>(err);
  if (C10_LIKELY(error == cudaSuccess)) return;
  (void)cudaGetLastError();  // the exception tells
  std::string message = std::string("CUDA error: ") + cudaGetErrorString(error);
  throw c10::AcceleratorError({function_name, filename, line_number}, err, message);
}

}  // namespace c10::cuda
