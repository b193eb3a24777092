// Reads the PTX text out of a fat binary as nvcc links it into objects. Only uncompressed PTX can be read
// (nvcc -no-compress, or --compress-mode=none); cubins are skipped.
#pragma once

#include <string>

namespace kernelevo::runtime {

struct FatBinary {
  std::string ptx;      // every PTX text in it, the newest target first wins
  std::string problem;  // why there is none
};

// `wrapper`: what __cudaRegisterFatBinary is given, a struct in section .nvFatBinSegment.
FatBinary read_fat_binary(const void* wrapper);

}  // namespace kernelevo::runtime
