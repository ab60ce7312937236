#include "samplers/operators.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/numbers/filters.h"

namespace evoke {

namespace {

// ---- Options ---------------------------------------------------------------------------------------------------------------------------

// What every operator takes.
void describe_every(Fields& f, int64_t& every) { f("every", every, "steps", "it is applied after every so many steps", {1, 1e9}); }

void describe_ground(Fields& f, std::vector<double>& ground) {
  f("ground", ground, "", "the colour that pixels fall back to: one number, or one a channel");
}

struct RangeOptions {
  double low = 0.0, high = 1.0;
  int64_t every = 1;
};
void describe(Fields& f, RangeOptions& o) {
  f("low", o.low, "", "pixels below become this");
  f("high", o.high, "", "pixels above become this");
  describe_every(f, o.every);
}

struct DecayOptions {
  double share = 0.01;
  std::vector<double> ground{0.5};
  int64_t every = 1;
};
void describe(Fields& f, DecayOptions& o) {
  f("share", o.share, "share", "of what a pixel is above the ground that is taken away", evoke::share);
  describe_ground(f, o.ground);
  describe_every(f, o.every);
}

constexpr Range pixels{0.05, 64.0};

struct BlurOptions {
  double deviation = 1.0;
  int64_t every = 1;
};
void describe(Fields& f, BlurOptions& o) {
  f("deviation", o.deviation, "pixels", "standard deviation of the Gaussian", pixels);
  describe_every(f, o.every);
}

struct BilateralOptions {
  double deviation = 1.5, colour = 0.1;
  int64_t every = 1;
};
void describe(Fields& f, BilateralOptions& o) {
  f("deviation", o.deviation, "pixels", "standard deviation of the Gaussian in the plane", {0.05, 16.0});
  f("colour", o.colour, "", "standard deviation of the Gaussian of colours: edges between colours further apart than this stay", positive);
  describe_every(f, o.every);
}

struct SmallOptions {
  double share = 0.2;
  std::vector<double> ground{0.5};
  int64_t every = 1;
};
void describe(Fields& f, SmallOptions& o) {
  f("share", o.share, "share", "of the pixels of each image, the smallest ones, that are set to the ground", evoke::share);
  describe_ground(f, o.ground);
  describe_every(f, o.every);
}

struct VariationOptions {
  double weight = 0.01;
  int64_t iterations = 20, every = 1;
};
void describe(Fields& f, VariationOptions& o) {
  f("weight", o.weight, "", "how much total variation counts beside the squared distance", non_negative);
  f("iterations", o.iterations, "", "of the inner problem", {1, 10000});
  describe_every(f, o.every);
}

struct ColourOptions {
  std::vector<std::string> colours;
  int64_t every = 1;
};
void describe(Fields& f, ColourOptions& o) {
  f("colours", o.colours,
    "black, white, grey, red, green, blue, yellow, cyan, magenta, #rrggbb; black and red: red alone; black and white: grey images");
  describe_every(f, o.every);
}

struct MaskOptions {
  std::string file;
  std::vector<double> box;
  int64_t every = 1;
};
void describe(Fields& f, MaskOptions& o) {
  f.path("file", o.file, "an image, white where pixels may move and black where they stay as they were at the start");
  f("box", o.box, "pixels", "in place of a file: [top, left, height, width] of the rectangle whose pixels may move");
  describe_every(f, o.every);
}

struct FieldOptions {
  int64_t probes = 8, every = 1;
};
void describe(Fields& f, FieldOptions& o) {
  f("probes", o.probes, "images", "of uniform noise, beside the start, at which the unit's gradient is looked at", {0, 1024});
  describe_every(f, o.every);
}

struct LaplacianOptions {
  int64_t levels = 4, every = 1;
};
void describe(Fields& f, LaplacianOptions& o) {
  f("levels", o.levels, "", "how often the image is halved", {1, 12});
  describe_every(f, o.every);
}

// ---- What they do ----------------------------------------------------------------------------------------------------------------------

// Of one number or one a channel: [1,C,1,1], or [1,1,1,1].
Tensor ground_of(const std::vector<double>& ground, const Tensor& x) { return at::tensor(ground, x.options()).view({1, -1, 1, 1}); }

// x with those pixels on the ground whose size [N,1,H,W] is below that of number ⌊share·H·W⌋ of the image's pixels, counted from 0 and the
// smallest first. Of equal ones either all go or none.
Tensor without_small(const Tensor& x, const Tensor& size, const SmallOptions& o) {
  const Tensor flat = size.flatten(1);
  const auto count = static_cast<int64_t>(std::floor(o.share * static_cast<double>(flat.size(1)) + 1e-9));
  const Tensor ground = ground_of(o.ground, x);
  if (count >= flat.size(1)) return ground.expand_as(x);
  const Tensor least = std::get<0>(flat.sort(1)).select(1, count);
  return at::where(size < least.view({-1, 1, 1, 1}), ground, x);
}

double hex(const std::string& word, size_t at) {
  const auto digit = [&](char c) {
    const size_t value = std::string("0123456789abcdef").find(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    require(value != std::string::npos, Failure::usage, "found the colour '", word, "', expected six hexadecimal digits behind the #");
    return static_cast<double>(value);
  };
  return (16 * digit(word[at]) + digit(word[at + 1])) / 255.0;
}

// [K,3] of their names, or of their "#rrggbb".
Tensor colours_of(const std::vector<std::string>& words) {
  static const std::map<std::string, std::vector<double>> named{{"black", {0, 0, 0}},  {"white", {1, 1, 1}}, {"grey", {.5, .5, .5}},
                                                                {"red", {1, 0, 0}},    {"green", {0, 1, 0}}, {"blue", {0, 0, 1}},
                                                                {"yellow", {1, 1, 0}}, {"cyan", {0, 1, 1}},  {"magenta", {1, 0, 1}}};
  require(!words.empty(), Failure::usage, "found no colour, expected one or more, such as [\"black\", \"red\"]");
  std::vector<double> out;
  for (const std::string& word : words) {
    std::vector<double> colour;
    if (const auto found = named.find(word); found != named.end()) {
      colour = found->second;
    } else {
      std::vector<std::string> names;
      for (const auto& [name, value] : named) names.push_back(name);
      require(word.size() == 7 && word[0] == '#', Failure::usage, "found no colour '", word, "'", did_you_mean(word, names), " or #rrggbb");
      colour = {hex(word, 1), hex(word, 3), hex(word, 5)};
    }
    out.insert(out.end(), colour.begin(), colour.end());
  }
  return at::tensor(out, at::kDouble).view({-1, 3});
}

// Places from the first to the last that holds, along a dimension of a bool tensor.
Tensor spanned(const Tensor& holds, int64_t dimension) {
  const Tensor counted = holds.to(at::kInt);
  return (counted.cumsum(dimension) > 0) & (counted.flip(dimension).cumsum(dimension).flip(dimension) > 0);
}

// Where a unit's gradient ever is another number than 0: the rectangle about it, [N,1,H,W]. A unit that answers to nothing may move all.
Tensor receptive_field(const Tensor& start, const Target& unit, Stream& stream, int64_t probes) {
  Tensor holds = (unit.evaluate(start, stream).gradient != 0).any(1, true);
  for (int64_t i = 0; i < probes; ++i)
    holds = holds | (unit.evaluate(stream.uniform(start.sizes().slice(1)), stream).gradient != 0).any(1, true);
  const Tensor field = spanned(holds.any(2, true), 3) & spanned(holds.any(3, true), 2);
  return field | holds.flatten(1).any(1).logical_not().view({-1, 1, 1, 1});
}

// ---- The menu --------------------------------------------------------------------------------------------------------------------------

struct OperatorOrder {
  Recipe& recipe;
  std::string table;
  const Canvas& canvas;
};
using Operators = Menu<Operator, OperatorOrder>;

// Options that do not fit the images.
template <class Options>
void check(const Options& o, const OperatorOrder& order) {
  const ImageSpec& image = order.canvas.image;
  if constexpr (requires { o.ground; })
    order.recipe.about(order.table, {"ground"}, [&] {
      require(o.ground.size() == 1 || static_cast<int64_t>(o.ground.size()) == image.channels, Failure::usage, "found ", o.ground.size(),
              " numbers, expected 1 or ", image.channels, ", one a channel");
    });
  if constexpr (requires { o.high; })
    order.recipe.about(order.table, {"low", "high"},
                       [&] { require(o.low < o.high, Failure::usage, "found ", o.low, " to ", o.high, ", expected the low end first"); });
  if constexpr (requires { o.levels; })
    order.recipe.about(order.table, {"levels"}, [&] {
      require(std::min(image.height, image.width) >> o.levels >= 1, Failure::usage, "found ", o.levels, " halvings of images of ",
              image.width, "×", image.height, ", expected fewer");
    });
}

// An operator of nothing but the image.
template <class Options>
Operators::Row row(const std::string& kind, const std::string& sentence, const std::string& example,
                   std::function<Tensor(const Options&, const Tensor& x, const Seen&)> apply) {
  return Operators::row<Options>(kind, sentence, example, [kind, apply](const Options& o, const OperatorOrder& order) {
    check(o, order);
    Operator out;
    out.name = kind;
    out.every = o.every;
    out.apply = [o, apply](const Tensor& x, const Seen& seen) { return apply(o, x, seen); };
    return out;
  });
}

Operators::Row colour_row(const std::string& kind, const std::string& sentence, Tensor (*project)(const Tensor& x, const Tensor& colours)) {
  return Operators::row<ColourOptions>(kind, sentence, "colours = [\"black\", \"red\", \"#0000ff\"]",
                                       [kind, project](const ColourOptions& o, const OperatorOrder& order) {
                                         Operator out;
                                         out.name = kind;
                                         out.every = o.every;
                                         const Tensor colours = order.recipe.about(order.table, {"colours"}, [&] {
                                           require(order.canvas.image.channels == 3, Failure::usage, "found images of ",
                                                   order.canvas.image.channels, " channels, expected the three that colours have");
                                           require(o.colours.size() <= 8 || project == nearest_colours, Failure::usage, "found ",
                                                   o.colours.size(), " colours to mix, expected at most 8");
                                           return colours_of(o.colours);
                                         });
                                         out.apply = [colours, project](const Tensor& x, const Seen&) { return project(x, colours); };
                                         return out;
                                       });
}

// Where pixels may move, bool [1,1,H,W]: where the file is lighter than middle grey, or in the box.
Tensor mask_of(const MaskOptions& o, const OperatorOrder& order) {
  const ImageSpec& image = order.canvas.image;
  require(o.box.empty() != o.file.empty(), Failure::usage, "found ", o.file.empty() ? "neither file nor box" : "both file and box",
          ", expected one of them");
  if (o.box.empty()) {
    require(static_cast<bool>(order.canvas.read), Failure::runtime, "mask: found nothing that reads ", o.file);
    const Tensor mask = order.canvas.read(o.file, 1);
    require(mask.size(1) == image.height && mask.size(2) == image.width, Failure::usage, "found a mask of ", mask.size(2), "×",
            mask.size(1), ", expected one of the images' size, ", image.width, "×", image.height);
    return (mask > 0.5).unsqueeze(0);
  }
  require(o.box.size() == 4, Failure::usage, "found ", o.box.size(), " numbers, expected [top, left, height, width]");
  std::vector<int64_t> box;
  for (const double number : o.box) box.push_back(static_cast<int64_t>(number));
  const auto [top, left, height, width] = std::array<int64_t, 4>{box[0], box[1], box[2], box[3]};
  require(top >= 0 && left >= 0 && height > 0 && width > 0 && top + height <= image.height && left + width <= image.width, Failure::usage,
          "found [", top, ", ", left, ", ", height, ", ", width, "], expected a rectangle within ", image.width, "×", image.height);
  Tensor mask = at::zeros({1, 1, image.height, image.width}, at::kBool);
  mask.slice(2, top, top + height).slice(3, left, left + width).fill_(true);
  return mask;
}

Operator make_mask(const MaskOptions& o, const OperatorOrder& order) {
  const Tensor mask = order.recipe.about(order.table, {o.box.empty() ? "file" : "box"}, [&] { return mask_of(o, order); });
  Operator out;
  out.name = "mask";
  out.every = o.every;
  out.any_size = false;
  out.keep = [](const Tensor& start, const Target&, Stream&) { return start; };
  out.apply = [mask](const Tensor& x, const Seen& seen) { return at::where(mask.to(x.device()), x, seen.kept); };
  return out;
}

Operator make_field(const FieldOptions& o, const OperatorOrder&) {
  Operator out;
  out.name = "receptive_field";
  out.every = o.every;
  out.keep = [probes = o.probes](const Tensor& start, const Target& unit, Stream& stream) {
    // The images of the start outside, 1 channel more for the field.
    const Tensor field = receptive_field(start, unit, stream, probes);
    return at::cat({start, field.to(start.scalar_type())}, 1);
  };
  out.any_size = false;
  out.apply = [](const Tensor& x, const Seen& seen) {
    const int64_t channels = x.size(1);
    return at::where(seen.kept.narrow(1, channels, 1) > 0, x, seen.kept.narrow(1, 0, channels));
  };
  return out;
}

const Operators& after_a_step() {
  using X = const Tensor&;
  using S = const Seen&;
  static const Operators menu(
      "sampler.after", "",
      {row<RangeOptions>("range", "pixels stay between two values", "",
                         [](const RangeOptions& o, X x, S) { return x.clamp(o.low, o.high); }),
       row<DecayOptions>("decay", "a share of the picture is taken away: g + (1 - share)·(x - g), g the ground (L2 decay)", "",
                         [](const DecayOptions& o, X x, S) {
                           const Tensor ground = ground_of(o.ground, x);
                           return ground + (1 - o.share) * (x - ground);
                         }),
       row<BlurOptions>("blur", "a Gaussian blur, the border repeated", "every = 4",
                        [](const BlurOptions& o, X x, S) { return gaussian_blurred(x, o.deviation, Border::repeated); }),
       row<BilateralOptions>("bilateral", "a blur that keeps edges (bilateral filter)", "deviation = 1.0",
                             [](const BilateralOptions& o, X x, S) { return bilateral_filtered(x, o.deviation, o.colour); }),
       row<SmallOptions>(
           "small_norm", "pixels that are near the ground, by their norm over channels, are set to it", "",
           [](const SmallOptions& o, X x, S) { return without_small(x, (x - ground_of(o.ground, x)).square().sum(1, true), o); }),
       row<SmallOptions>("small_contribution", "pixels that matter little, by |Σ (x - ground)·∂/∂x| over channels, are set to the ground",
                         "share = 0.3",
                         [](const SmallOptions& o, X x, S seen) {
                           return without_small(x, ((seen.image - ground_of(o.ground, x)) * seen.gradient).sum(1, true).abs(), o);
                         }),
       row<VariationOptions>("total_variation", "the nearest image of less total variation: its proximal step", "iterations = 5",
                             [](const VariationOptions& o, X x, S) { return total_variation_proximal(x, o.weight, o.iterations); }),
       colour_row("palette", "each pixel takes the nearest of a few colours", nearest_colours),
       colour_row("mixture", "each pixel takes the nearest mixture of a few colours: images in one colour alone, or grey ones",
                  nearest_mixtures),
       Operators::row<MaskOptions>("mask", "pixels outside a mask stay as they were at the start", "box = [1, 1, 2, 3]", make_mask),
       Operators::row<FieldOptions>("receptive_field",
                                    "pixels outside the unit's receptive field, found by its gradient, stay as they were at the start", "",
                                    make_field)});
  return menu;
}

const Operators& of_gradients() {
  using X = const Tensor&;
  using S = const Seen&;
  static const Operators menu(
      "sampler.gradient", "",
      {row<BlurOptions>("blur", "a Gaussian blur, zeros beyond the border", "",
                        [](const BlurOptions& o, X x, S) { return gaussian_blurred(x, o.deviation, Border::zeros); }),
       row<LaplacianOptions>("laplacian", "every scale of the gradient is given the same strength", "levels = 1",
                             [](const LaplacianOptions& o, X x, S) { return laplacian_normalized(x, o.levels); })});
  return menu;
}

}  // namespace

std::vector<Operator> make_operators(Recipe& recipe, const std::string& list, const Canvas& canvas) {
  const bool gradient = list.ends_with(".gradient");
  const Operators& menu = gradient ? of_gradients() : after_a_step();
  std::vector<Operator> out;
  for (int64_t item = 0; item < recipe.count(list); ++item) {
    const std::string table = text(list, ".", item);
    const Operators::Row& chosen = menu.chosen(recipe, table, "");
    recipe.about(table, {"kind"}, [&] {
      require(canvas.pixels, Failure::usage, "found '", chosen.entry.kind, "', an operator on ", gradient ? "gradients of " : "",
              "images, where z is none; take [generator] kind = \"pixel\"");
      require(canvas.identity || gradient, Failure::usage, "found '", chosen.entry.kind,
              "', an operator on colours, where z is none; take [generator] kind = \"pixel\" and range = \"clip\"");
    });
    out.push_back(chosen.make({recipe, table, canvas}));
  }
  return out;
}

std::vector<Tensor> kept_by(const std::vector<Operator>& operators, const Canvas& canvas, const Tensor& start, Stream& stream) {
  std::vector<Tensor> out;
  for (const Operator& one : operators) out.push_back(one.keep ? one.keep(start, canvas.unit.value_or(Target{}), stream) : Tensor());
  return out;
}

Tensor applied(const std::vector<Operator>& operators, Tensor x, Seen seen, const std::vector<Tensor>& kept, int64_t step) {
  for (size_t i = 0; i < operators.size(); ++i) {
    if ((step + 1) % operators[i].every != 0) continue;
    seen.kept = kept[i];
    x = operators[i].apply(x, seen);
  }
  return x;
}

std::vector<MenuEntry> operator_menu() {
  std::vector<MenuEntry> out = after_a_step().entries();
  for (const MenuEntry& entry : of_gradients().entries()) out.push_back(entry);
  return out;
}

}  // namespace evoke
