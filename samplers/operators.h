// Operators on images that ascent applies after a step, x ← r(x + step), or to the gradient before it: the priors that are built by hand.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/nouns/nouns.h"
#include "core/recipes/menu.h"

namespace evoke {

/// What an operator sees beside the image that it works on.
struct Seen {
  Tensor image, gradient;  // z before the step, and the target's slope there
  Tensor kept;             // what `keep` gave when the run began; undefined: nothing
};

/// A pure function of images [N,C,H,W], each row by itself.
struct Operator {
  std::string name;
  std::function<Tensor(const Tensor& x, const Seen&)> apply;
  /// What it keeps from the start of a run, [N,…]; `unit`: what each row's unit says of an image, without prior, penalties, transform and
  /// weights. Empty: nothing.
  std::function<Tensor(const Tensor& start, const Target& unit, Stream&)> keep = {};
  int64_t every = 1;     // it is applied at each step whose number, counted from 1, this divides
  bool any_size = true;  // it serves octaves, whose images grow in the course of the run
};

/// What operators are told of the run that they will serve: what z is, and how a file becomes an image.
struct Canvas {
  bool pixels = false;    // z has a number for each channel and pixel of `image`
  bool identity = false;  // and these are the colours themselves (Generator::identity)
  ImageSpec image{};
  std::optional<Target> unit{};                                             // for Operator::keep
  std::function<Tensor(const std::string& file, int64_t channels)> read{};  // [C,H,W] in [0,1]; empty: no file can be read
};

/// The operators that the list [[list]] of a recipe describes, in its order; `list` is sampler.after, sampler.gradient, or the same of
/// climb, and those of a list that ends in "gradient" work on gradients, the others on images. Throws Failure::input for an unknown kind or
/// option, and Failure::usage where z is no image.
std::vector<Operator> make_operators(Recipe&, const std::string& list, const Canvas&);

/// What each operator keeps, undefined where it keeps nothing. Throws Failure::usage where one needs the unit and there is none.
std::vector<Tensor> kept_by(const std::vector<Operator>&, const Canvas&, const Tensor& start, Stream&);

/// x after all operators that are due at step number `step`, counted from 0. `seen.kept` is filled in from `kept`.
Tensor applied(const std::vector<Operator>&, Tensor x, Seen seen, const std::vector<Tensor>& kept, int64_t step);

/// Every kind of them, as [[sampler.after]] and [[sampler.gradient]], for --help.
std::vector<MenuEntry> operator_menu();

}  // namespace evoke
