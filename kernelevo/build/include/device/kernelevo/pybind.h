#pragma once
// Stands for pybind11 in the device pass: a module definition is parsed and means nothing.

#include <kernelevo/tensor.h>

namespace pybind11 {

struct accessor;
struct object {
  template <typename T>
  T cast() const;
  accessor attr(const char*) const;
  bool is_none() const;
  template <class... Arguments>
  object operator()(Arguments&&...) const;
};
struct accessor : object {
  template <typename T>
  void operator=(T&&) const;
};
struct handle : object {};
struct none : object {};
struct str : object {
  str(const char*);
  str(const std::string&);
};
struct bytes : object {};
struct list : object {
  template <typename T>
  void append(T&&) const;
};
struct tuple : object {
  size_t size() const;
  object operator[](size_t) const;
};
struct dict : object {
  accessor operator[](const char*) const;
};
struct args : tuple {};
struct kwargs : dict {};
struct arg_v {};
struct arg {
  constexpr explicit arg(const char* = nullptr) {}
  template <typename T>
  arg_v operator=(T&&) const;
  arg& noconvert(bool = true);
  arg& none(bool = true);
};
struct kw_only {};
struct pos_only {};
struct gil_scoped_release {
  gil_scoped_release();
  ~gil_scoped_release();
};
struct gil_scoped_acquire {
  gil_scoped_acquire();
  ~gil_scoped_acquire();
};
template <class... Guards>
struct call_guard {};
enum class return_value_policy { automatic, automatic_reference, take_ownership, copy, move, reference };

template <class... Arguments>
tuple make_tuple(Arguments&&...);
template <typename T>
object cast(T&&);
template <class... Arguments>
void print(Arguments&&...);

struct module_ : object {
  template <typename F, class... Extra>
  module_& def(const char* name, F&& function, const Extra&... extra);
  module_ def_submodule(const char* name, const char* doc = nullptr);
  static module_ import(const char* name);
  accessor doc();
};
using module = module_;

template <class... Arguments>
struct init {};
template <typename T, class... Options>
struct class_ : object {
  template <class... Extra>
  class_(const object& scope, const char* name, const Extra&... extra);
  template <typename F, class... Extra>
  class_& def(const char* name, F&& function, const Extra&... extra);
  template <class... Arguments, class... Extra>
  class_& def(init<Arguments...>, const Extra&... extra);
  template <typename M>
  class_& def_readwrite(const char* name, M T::*member);
  template <typename M>
  class_& def_readonly(const char* name, const M T::*member);
};

inline namespace literals {
constexpr arg operator""_a(const char* name, size_t) { return arg(name); }
}  // namespace literals

}  // namespace pybind11

namespace py = pybind11;

#define PYBIND11_MODULE(name, variable, ...) [[maybe_unused]] static void kernelevo_module(::pybind11::module_& variable)
