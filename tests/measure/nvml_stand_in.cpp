// Some of NVML's C interface over one card that is made of constants, so that the calls are made for real.
#include <cstring>

namespace {
int card;
int text(char* to, unsigned size, const char* words) {
  if (std::strlen(words) + 1 > size) return 7;  // NVML_ERROR_INSUFFICIENT_SIZE
  std::strcpy(to, words);
  return 0;
}
}  // namespace

extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  if (index != 0) return 6;  // NVML_ERROR_NOT_FOUND
  *handle = &card;
  return 0;
}
int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  if (std::strcmp(uuid, "GPU-1234") != 0) return 6;
  *handle = &card;
  return 0;
}
const char* nvmlErrorString(int status) { return status == 6 ? "Not Found" : "?"; }
int nvmlDeviceGetName(void* handle, char* to, unsigned size) { return handle == &card ? text(to, size, "Test Card") : 2; }
int nvmlDeviceGetUUID(void*, char* to, unsigned size) { return text(to, size, "GPU-1234"); }
int nvmlSystemGetDriverVersion(char* to, unsigned size) { return text(to, size, "580.1"); }
int nvmlDeviceGetCudaComputeCapability(void*, int* major, int* minor) { return *major = 9, *minor = 0, 0; }
int nvmlDeviceGetMemoryBusWidth(void*, unsigned* bits) { return *bits = 5120, 0; }
int nvmlDeviceGetMaxClockInfo(void*, int which, unsigned* mhz) { return *mhz = which == 2 ? 2619 : 1980, 0; }
int nvmlDeviceGetClockInfo(void*, int which, unsigned* mhz) { return *mhz = which == 2 ? 2619 : 1755, 0; }
int nvmlDeviceGetTemperature(void*, int, unsigned* celsius) { return *celsius = 61, 0; }
int nvmlDeviceGetPowerUsage(void*, unsigned*) { return 3; }  // NVML_ERROR_NOT_SUPPORTED
int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* reasons) { return *reasons = 0x1 | 0x4 | 0x20, 0; }
}
