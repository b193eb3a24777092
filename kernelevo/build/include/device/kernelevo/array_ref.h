#pragma once
// Stands for c10/util/ArrayRef.h, c10/util/OptionalArrayRef.h and c10/util/irange.h in the device pass.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

namespace c10 {

template <typename T>
class ArrayRef {
 public:
  using iterator = const T*;
  using const_iterator = const T*;
  using value_type = T;

  constexpr ArrayRef() = default;
  constexpr ArrayRef(const T& one) : data_(&one), size_(1) {}
  constexpr ArrayRef(const T* data, size_t size) : data_(data), size_(size) {}
  constexpr ArrayRef(const T* begin, const T* end) : data_(begin), size_(end - begin) {}
  template <typename A>
  ArrayRef(const std::vector<T, A>& v) : data_(v.data()), size_(v.size()) {}
  template <size_t N>
  constexpr ArrayRef(const std::array<T, N>& a) : data_(a.data()), size_(N) {}
  template <size_t N>
  constexpr ArrayRef(const T (&a)[N]) : data_(a), size_(N) {}
  constexpr ArrayRef(const std::initializer_list<T>& list) : data_(list.begin()), size_(list.size()) {}

  constexpr const T* begin() const { return data_; }
  constexpr const T* end() const { return data_ + size_; }
  constexpr const T* data() const { return data_; }
  constexpr size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr const T& operator[](size_t i) const { return data_[i]; }
  const T& at(size_t i) const;
  const T& front() const;
  const T& back() const;
  bool equals(ArrayRef other) const;
  ArrayRef slice(size_t first, size_t count) const;
  ArrayRef slice(size_t first) const;
  std::vector<T> vec() const;

 private:
  const T* data_ = nullptr;
  size_t size_ = 0;
};

template <typename T>
bool operator==(ArrayRef<T>, ArrayRef<T>);
template <typename T>
bool operator!=(ArrayRef<T>, ArrayRef<T>);
template <typename T>
bool operator==(const std::vector<T>&, ArrayRef<T>);
template <typename T>
bool operator==(ArrayRef<T>, const std::vector<T>&);

using IntArrayRef = ArrayRef<int64_t>;

template <typename T>
class OptionalArrayRef {
 public:
  OptionalArrayRef() = default;
  OptionalArrayRef(std::nullopt_t);
  OptionalArrayRef(const T&);
  OptionalArrayRef(std::initializer_list<T>);
  OptionalArrayRef(const std::vector<T>&);
  OptionalArrayRef(ArrayRef<T>);
  bool has_value() const;
  ArrayRef<T> value() const;
};
using OptionalIntArrayRef = OptionalArrayRef<int64_t>;

template <typename T>
struct integer_range {
  struct iterator {
    T operator*() const;
    iterator& operator++();
    bool operator!=(const iterator&) const;
  };
  iterator begin() const;
  iterator end() const;
};
template <typename T>
integer_range<T> irange(T end);
template <typename A, typename T>
integer_range<T> irange(A begin, T end);

}  // namespace c10

namespace at {
using c10::ArrayRef;
using c10::IntArrayRef;
using c10::OptionalIntArrayRef;
}  // namespace at
