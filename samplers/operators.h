// Operators on images that ascent applies after a step (x ← r(x + step)), or to the gradient before it: the priors that are built by hand.
#pragma once
#include <functional>
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
  /// What it keeps from the start of a run, [N,…]; `unit` is what each row's unit says, without prior, penalties, transform and weights.
  /// Empty: nothing.
  std::function<Tensor(const Tensor& start, const Target& unit, Stream&)> keep = {};
  int64_t every = 1;         // it is applied after each step whose number, counted from 1, this divides
  bool any_size = true;      // it serves images of other sizes than the start's (octaves)
};

/// What operators are given by the run that they will serve: what z is, and how a file becomes an image.
struct Canvas {
  bool pixels = false;    // z has a number for each channel and pixel of the image
  bool identity = false;  // and these are the colours themselves (Generator::identity)
  int64_t channels = 3;
  std::optional<Target> unit{};                            // for Operator::keep
  std::function<Tensor(const std::string& file)> image{};  // [C,H,W] in [0,1] of a file, of the canvas's channels; empty: none is read
};

/// The operators that the tables [[table]] of a recipe describe, in their order, "table" being sampler.after, sampler.gradient, or the same
/// of climb: those whose last word is "gradient" work on gradients, the others on images. Throws Failure::input for an unknown kind or
/// option, and Failure::usage where z is no image.
std::vector<Operator> make_operators(Recipe&, const std::string& table, const Canvas&);

/// Every kind of them, as [[sampler.after]] and as [[sampler.gradient]].
std::vector<MenuEntry> operator_menu();

/// x after all operators that are due at the step number `step` (counted from 0), or, with an undefined `due`, the image that each would
/// give. kept: what each of them kept, in their order.
Tensor applied(const std::vector<Operator>&, Tensor x, const Tensor& image, const Tensor& gradient, const std::vector<Tensor>& kept,
               int64_t step);

}  // namespace evoke
