#include "count_bindings.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "count.h"

namespace py = pybind11;
using namespace kernelevo;

namespace {

using SiteFacts = std::tuple<int, bool, bool, uint32_t>;  // space, reads, writes, bytes

Counter make_counter(const std::vector<SiteFacts>& facts, std::size_t basic_blocks) {
  std::vector<Site> sites;
  for (const auto& [space, reads, writes, bytes] : facts) sites.push_back({Space(space), reads, writes, bytes});
  return Counter(std::move(sites), basic_blocks);
}

py::list site_counts(const Counter& counter) {
  py::list all;
  for (const SiteCounts& s : counter.sites())
    all.append(py::make_tuple(s.requests, s.lanes, s.sectors, s.wavefronts, s.ideal_wavefronts, s.serial));
  return all;
}

py::tuple block_counts(const Counter& counter) {
  py::list executions, lanes;
  for (const BlockCounts& b : counter.blocks()) {
    executions.append(b.executions);
    lanes.append(b.lanes);
  }
  return py::make_tuple(executions, lanes);
}

py::list footprints(const Counter& counter) {
  py::list all;
  for (const Footprint& f : counter.footprints())
    all.append(py::make_tuple(f.bytes, f.read_half, f.read, f.written_half, f.written));
  return all;
}

}  // namespace

void bind_count(py::module_& m) {
  py::class_<Counter>(m, "Counter", "Event counts of one launch; see csrc/emulator/count.h.")
      .def(py::init(&make_counter), py::arg("sites"), py::arg("basic_blocks"))
      .def_property_readonly("address", [](const Counter& self) { return reinterpret_cast<uintptr_t>(&self); })
      .def_property_readonly_static("hooks",
                                    [](const py::object&) {
                                      return std::vector<uintptr_t>{
                                          reinterpret_cast<uintptr_t>(&kernelevo_count_block),
                                          reinterpret_cast<uintptr_t>(&kernelevo_count_access)};
                                    })
      .def("sites", &site_counts)
      .def("blocks", &block_counts)
      .def("footprints", &footprints)
      .def("reuse", &Counter::reuse)
      .def_property_readonly("hottest_of_one", &Counter::hottest_of_one)
      .def_property_readonly("hottest_of_several", &Counter::hottest_of_several)
      .def_property_readonly("warp_read_sectors", &Counter::warp_read_sectors)
      .def_property_readonly("block_read_sectors", &Counter::block_read_sectors);
}
