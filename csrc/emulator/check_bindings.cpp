#include "check_bindings.h"

#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "check.h"

namespace py = pybind11;
using namespace kernelevo;

namespace {

// What generated code calls, in the order of checking.py's hook numbers.
uint32_t on_access(const Checker::View* view, WarpState* warp, uint32_t site, uint32_t mask, const uint64_t* addresses) {
  return view->checker->access(*warp, site, mask, addresses);
}

void on_unwritten(const Checker::View* view, WarpState* warp, uint32_t site, uint32_t mask, const uint64_t* addresses) {
  view->checker->unwritten(*warp, site, mask, addresses);
}

void on_barrier(const Checker::View* view, WarpState* warp, uint32_t site, uint32_t mask) {
  view->checker->barrier(*warp, site, mask);
}

void on_meeting(const Checker::View* view, WarpState* warp, uint32_t site, uint32_t mask, uint32_t here,
                const int32_t* next, const uint32_t* members, const uint32_t* lanes, const uint32_t* clamps) {
  view->checker->meet(*warp, site, mask, here, next, members, lanes, clamps);
}

void on_pass(const Checker::View* view, WarpState* warp, uint32_t basic_block, uint32_t mask) {
  view->checker->pass(*warp, basic_block, mask);
}

void on_share(const Checker::View* view, WarpState* warp, uint32_t site, uint32_t mask, const uint64_t* addresses,
              const char* values) {
  view->checker->share(*warp, site, mask, addresses, values);
}

void on_fence(const Checker::View* view, WarpState* warp) { view->checker->fence(*warp); }

void on_together(const Checker::View* view, WarpState* warp, uint32_t mask) { view->checker->together(*warp, mask); }

std::unique_ptr<Checker> make_checker(const std::vector<py::dict>& sites, bool races, const std::array<uint32_t, 3>& threads,
                                      uint32_t local_bytes, uint32_t local_stride,
                                      const std::vector<std::tuple<uint64_t, uint64_t, bool, std::string>>& variables) {
  std::vector<CheckedSite> facts;
  for (const py::dict& d : sites) {
    CheckedSite site;
    site.kind = CheckedSite::Kind(d["kind"].cast<int>());
    site.region = CheckedSite::Region(d["region"].cast<int>());
    site.reads = d["reads"].cast<bool>();
    site.writes = d["writes"].cast<bool>();
    site.strong = d["strong"].cast<bool>();
    site.atomic = d["atomic"].cast<bool>();
    site.spins = d["spins"].cast<bool>();
    site.releases = d["releases"].cast<bool>();
    site.element = d["element"].cast<uint32_t>();
    site.count = d["count"].cast<uint32_t>();
    site.used = d["used"].cast<uint32_t>();
    site.line = d["line"].cast<uint32_t>();
    site.barrier = d["barrier"].cast<int>();
    site.counted = d["counted"].cast<bool>();
    site.arrives = d["arrives"].cast<bool>();
    site.family = d["family"].cast<int>();
    site.starts = d["starts"].cast<int>();
    site.shuffle = CheckedSite::Shuffle(d["shuffle"].cast<int>());
    site.behind = d["behind"].cast<std::vector<uint32_t>>();
    facts.push_back(site);
  }
  std::vector<MemoryRange> ranges;
  for (const auto& [address, size, writable, name] : variables) ranges.push_back({address, size, writable, name});
  return std::make_unique<Checker>(std::move(facts), races, threads.data(), local_bytes, local_stride, std::move(ranges));
}

py::list findings(const Checker& checker) {
  py::list all;
  for (const CheckFinding& f : checker.findings()) {
    py::dict d;
    d["kind"] = f.kind;
    d["site"] = f.site;
    d["block"] = py::make_tuple(f.block[0], f.block[1], f.block[2]);
    d["thread"] = py::make_tuple(f.thread[0], f.thread[1], f.thread[2]);
    d["address"] = f.has_address ? py::object(py::int_(f.address)) : py::none();
    d["allocation"] = f.allocation.empty() ? py::object(py::none()) : py::object(py::str(f.allocation));
    d["access_bytes"] = f.bytes ? py::object(py::int_(f.bytes)) : py::none();
    d["text"] = f.text;
    all.append(d);
  }
  return all;
}

}  // namespace

void bind_check(py::module_& m) {
  py::class_<Checker>(m, "Checker", "Checkers of one launch; see csrc/emulator/check.h.")
      .def(py::init(&make_checker), py::kw_only(), py::arg("sites"), py::arg("races"), py::arg("threads"), py::arg("local_bytes"), py::arg("local_stride"),
           py::arg("variables"))
      .def_property_readonly("observer", [](const Checker& self) { return reinterpret_cast<uintptr_t>(self.view()); })
      .def_property_readonly(
          "watcher", [](Checker& self) { return reinterpret_cast<uintptr_t>(static_cast<Watcher*>(&self)); })
      .def_property_readonly_static("hooks",
                                    [](const py::object&) {
                                      return std::vector<uintptr_t>{
                                          reinterpret_cast<uintptr_t>(&on_access),
                                          reinterpret_cast<uintptr_t>(&on_unwritten),
                                          reinterpret_cast<uintptr_t>(&on_barrier),
                                          reinterpret_cast<uintptr_t>(&on_meeting),
                                          reinterpret_cast<uintptr_t>(&on_pass),
                                          reinterpret_cast<uintptr_t>(&on_share),
                                          reinterpret_cast<uintptr_t>(&on_fence),
                                          reinterpret_cast<uintptr_t>(&on_together)};
                                    })
      .def_property_readonly("races_left_out", &Checker::races_left_out)
      .def("findings", &findings);
}
