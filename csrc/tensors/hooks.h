// The answers that torch's device-independent parts get about CUDA.
#pragma once

namespace kernelevo::tensors {

// From then on torch has an accelerator, "cuda", with one device. Needed once, whenever torch was imported.
void install_hooks();

}  // namespace kernelevo::tensors
