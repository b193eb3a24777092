#pragma once
// Stands for ATen/cuda/Atomic.cuh in the device pass: additions of the types that kernels here use.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <kernelevo/scalar_types.h>

static inline __device__ int gpuAtomicAdd(int* address, int value) { return atomicAdd(address, value); }
static inline __device__ float gpuAtomicAdd(float* address, float value) { return atomicAdd(address, value); }
static inline __device__ double gpuAtomicAdd(double* address, double value) { return atomicAdd(address, value); }
static inline __device__ int64_t gpuAtomicAdd(int64_t* address, int64_t value) {
  return atomicAdd(reinterpret_cast<unsigned long long*>(address), static_cast<unsigned long long>(value));
}
static inline __device__ c10::Half gpuAtomicAdd(c10::Half* address, c10::Half value) {
  return atomicAdd(reinterpret_cast<__half*>(address), static_cast<__half>(value));
}
static inline __device__ c10::BFloat16 gpuAtomicAdd(c10::BFloat16* address, c10::BFloat16 value) {
  return atomicAdd(reinterpret_cast<__nv_bfloat16*>(address), static_cast<__nv_bfloat16>(value));
}
template <typename T>
static inline __device__ void gpuAtomicAddNoReturn(T* address, T value) {
  gpuAtomicAdd(address, value);
}
static inline __device__ c10::Half atomicAdd(c10::Half* address, c10::Half value) {
  return gpuAtomicAdd(address, value);
}
static inline __device__ c10::BFloat16 atomicAdd(c10::BFloat16* address, c10::BFloat16 value) {
  return gpuAtomicAdd(address, value);
}
