#include "experiments/judging/render_judge.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/records/pictures.h"
#include "training/datasets/shapes.h"

namespace evoke {
namespace {

constexpr int64_t kSide = 48, kClasses = 60, kFamilies = 12, kPixels = 3 * kSide * kSide;  // values of a picture
constexpr int64_t kRainbow = 4;                                                            // the colour that is no factor of the mask
constexpr int64_t filled_square = 25;
constexpr double kTurn = 2 * M_PI;

ShapeAttributes attributes_at(int64_t label, double tx, double ty, double theta) {
  ShapeAttributes a = attributes_of_class(label);
  a.tx = tx;
  a.ty = ty;
  a.theta = theta;
  return a;
}

// Does the work of every row on as many threads as LibTorch uses, each of which works on its own row alone: threads that meet after every
// small operation mostly wait for one another. (at::parallel_for is serial where code is compiled without OpenMP.)
void for_each_row(int64_t rows, const std::function<void(int64_t)>& work) {
  struct OneEach {
    const int before = at::get_num_threads();
    OneEach() { at::set_num_threads(1); }
    ~OneEach() { at::set_num_threads(before); }
  } const threads;
  std::atomic<int64_t> next{0};
  std::exception_ptr trouble;
  std::mutex guard;
  const auto worker = [&] {
    const c10::NoGradGuard no_gradient;
    try {
      for (int64_t row = next++; row < rows; row = next++) work(row);
    } catch (...) {
      const std::lock_guard lock(guard);
      trouble = std::current_exception();
      next = rows;
    }
  };
  std::vector<std::thread> others;
  for (int64_t i = 1; i < std::min<int64_t>(threads.before, rows); ++i) others.emplace_back(worker);
  worker();
  for (std::thread& other : others) other.join();
  if (trouble) std::rethrow_exception(trouble);
}

// A class's image at the centre: float [3,48,48] in [0,1].
Tensor centred(int64_t label, double theta) {
  return render_shape(attributes_at(label, 0, 0, theta)).permute({2, 0, 1}).to(at::kFloat).div(255);
}

// The rotations of a grid over `range` radians; one where every turn looks the same.
std::vector<double> rotations(double range, double step_degrees) {
  const auto count = std::max<int64_t>(1, std::llround(range / (step_degrees * M_PI / 180)));
  std::vector<double> angles;
  for (int64_t i = 0; i < count; ++i) angles.push_back(range * static_cast<double>(i) / static_cast<double>(count));
  return angles;
}

Tensor angles_tensor(const std::vector<double>& angles, at::Device device) { return at::tensor(angles, at::kFloat).to(device); }

// Correlations at whole-pixel translations up to the reach, from their spectra: [...,48,25] -> [...,21·21], ty outer.
Tensor window(const Tensor& spectra, const Tensor& places) {
  const Tensor all = at::fft_irfft2(spectra, at::IntArrayRef{kSide, kSide});
  return all.index_select(-2, places).index_select(-1, places).flatten(-2);
}

// The least of `distance` [B,T,…,W] over templates and places: value, place and template, each [B,…].
struct Least {
  Tensor value, place, row;
};
Least least(const Tensor& distance) {
  const auto [value, place] = distance.min(-1);
  const auto [best, row] = value.min(1);
  return {best, place.gather(1, row.unsqueeze(1)).squeeze(1), row};
}

// match_grid for a few pictures x [B,3,48,48]: distance, place in the window and turn, each [B,12,5].
void match_batch(const RenderTemplates& templates, const Tensor& x, const Tensor& distance, const Tensor& place, const Tensor& theta) {
  const int64_t count = x.size(0), rotations = templates.rainbow_theta.size(0) / kFamilies;
  const Tensor places = (at::arange(-kReach, kReach + 1, place.options()) + kSide).remainder(kSide);
  const Tensor spectra = at::fft_rfft2(x);  // [B,3,48,25]

  // Plain colours: each channel with the mask once, for all four.
  const Tensor masked = window(spectra.unsqueeze(1) * templates.masks.unsqueeze(1), places);  // [B,P,3,W]
  const Tensor plain = at::matmul(templates.colours, masked).mul_(-2);                        // [B,P,4,W]
  plain.add_((templates.mask_energy.unsqueeze(1) * templates.colours.square().sum(1)).unsqueeze(-1));
  for (int64_t family = 0; family < kFamilies; ++family) {
    const int64_t begin = templates.mask_first[static_cast<size_t>(family)];
    const int64_t size = templates.mask_first[static_cast<size_t>(family) + 1] - begin;
    const Least found = least(plain.narrow(1, begin, size));
    distance.select(1, family).narrow(1, 0, 4).copy_(found.value);
    place.select(1, family).narrow(1, 0, 4).copy_(found.place);
    theta.select(1, family).narrow(1, 0, 4).copy_(templates.mask_theta.narrow(0, begin, size).index({found.row}));
  }

  // Rainbows: the channels are joined before the transform back.
  Tensor joined = spectra.narrow(1, 0, 1) * templates.rainbows[0];  // [B,R,48,25]
  for (int64_t channel = 1; channel < 3; ++channel) joined.addcmul_(spectra.narrow(1, channel, 1), templates.rainbows[channel]);
  const Tensor many = window(joined, places).mul_(-2).add_(templates.rainbow_energy.unsqueeze(-1));
  const Least found = least(many.reshape({count, kFamilies, rotations, -1}).transpose(1, 2));
  distance.select(2, kRainbow).copy_(found.value);
  place.select(2, kRainbow).copy_(found.place);
  theta.select(2, kRainbow).copy_(templates.rainbow_theta.narrow(0, 0, rotations).index({found.row}));
  distance.add_(broadcast_rows(x.square().sum({1, 2, 3}), 3));
}

// Σ a·b over the pixels, in eight sums side by side so that the compiler can use vector registers.
float dot(const float* a, const float* b) {
  std::array<float, 8> sums{};
  for (int64_t i = 0; i < kPixels; i += 8)
    for (int64_t lane = 0; lane < 8; ++lane) sums[static_cast<size_t>(lane)] += a[i + lane] * b[i + lane];
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}

// How far the render of (class, parameters) is from x [48,48,3], and the render.
struct Fit {
  std::array<double, 3> at{};  // tx, ty, θ
  double distance = std::numeric_limits<double>::infinity();
  std::vector<float> missing;  // x - render, [48·48·3]
};
Fit fit_at(const float* x, int64_t label, const std::array<double, 3>& at) {
  const Tensor image = render_shape(attributes_at(label, at[0], at[1], at[2]));
  const uint8_t* t = image.const_data_ptr<uint8_t>();
  Fit fit{at, 0, std::vector<float>(kPixels)};
  for (size_t i = 0; i < kPixels; ++i) fit.missing[i] = x[i] - static_cast<float>(t[i]) * (1 / 255.0f);
  fit.distance = dot(fit.missing.data(), fit.missing.data());
  return fit;
}

// Solves (A + λ·diag A)·s = b for a symmetric 3×3 A by Cramer's rule; a parameter without influence stays.
std::array<double, 3> damped_solve(std::array<std::array<double, 3>, 3> a, const std::array<double, 3>& b, double damping) {
  for (int i = 0; i < 3; ++i) a[i][i] = a[i][i] * (1 + damping) + 1e-9;
  const auto determinant = [](const std::array<std::array<double, 3>, 3>& m) {
    return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
           m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
  };
  const double whole = determinant(a);
  std::array<double, 3> s{};
  for (int column = 0; column < 3; ++column) {
    auto replaced = a;
    for (int i = 0; i < 3; ++i) replaced[i][column] = b[i];
    s[column] = determinant(replaced) / whole;
  }
  return s;
}

// Levenberg-Marquardt on (tx, ty, θ): slopes by central differences of the renderer, a step kept only when it comes nearer.
Fit refine(const float* x, int64_t label, const std::array<double, 3>& start) {
  constexpr std::array<double, 3> probe{0.25, 0.25, 0.025};  // px, px, rad: a quarter of a pixel at the shape's rim
  constexpr double reach = static_cast<double>(kReach) + 1;
  const int parameters = symmetry_of(label) > 0 ? 3 : 2;
  Fit best = fit_at(x, label, start);
  double damping = 1e-3;
  for (int iteration = 0; iteration < 6; ++iteration) {
    std::array<std::vector<float>, 3> slope;
    std::array<std::array<double, 3>, 3> normal{};
    std::array<double, 3> downhill{};
    for (int p = 0; p < parameters; ++p) {
      auto up = best.at, down = best.at;
      up[p] += probe[p];
      down[p] -= probe[p];
      const Tensor ahead = render_shape(attributes_at(label, up[0], up[1], up[2]));
      const Tensor behind = render_shape(attributes_at(label, down[0], down[1], down[2]));
      const uint8_t *a = ahead.const_data_ptr<uint8_t>(), *b = behind.const_data_ptr<uint8_t>();
      slope[p].resize(kPixels);
      const float scale = static_cast<float>(1 / (2 * 255 * probe[p]));
      for (int64_t i = 0; i < kPixels; ++i) slope[p][i] = static_cast<float>(a[i] - b[i]) * scale;
    }
    for (int p = 0; p < parameters; ++p) {
      for (int q = 0; q <= p; ++q) normal[p][q] = normal[q][p] = dot(slope[p].data(), slope[q].data());
      downhill[p] = dot(slope[p].data(), best.missing.data());
    }

    // Longer steps while they help, shorter ones until they do.
    const double before = best.distance;
    for (int attempt = 0; attempt < 3; ++attempt) {
      const auto step = damped_solve(normal, downhill, damping);
      auto next = best.at;
      for (int p = 0; p < parameters; ++p) next[p] += std::clamp(step[p], -4 * probe[p], 4 * probe[p]);
      next[0] = std::clamp(next[0], -reach, reach);
      next[1] = std::clamp(next[1], -reach, reach);
      Fit tried = fit_at(x, label, next);
      if (tried.distance < best.distance) {
        best = std::move(tried);
        damping /= 10;
        break;
      }
      damping = std::max(damping * 30, 1e-2);
    }
    if (before - best.distance <= 1e-3 * before) break;
  }
  return best;
}

}  // namespace

double symmetry_of(int64_t label) {
  require(label >= 0 && label < kClasses, Failure::usage, "symmetry_of: found class ", label, ", expected 0 to 59");
  if (label % 5 == kRainbow) return kTurn;
  constexpr std::array<double, 4> range{M_PI, M_PI / 2, 0, kTurn / 3};
  return range[static_cast<size_t>(label / 15)];
}

RenderTemplates render_templates(at::Device device, double rotation_step) {
  require(rotation_step > 0 && rotation_step <= 90, Failure::usage, "render_templates: found a rotation step of ", rotation_step,
          " degrees, expected more than 0 and at most 90");
  const c10::NoGradGuard no_gradient;
  RenderTemplates templates;

  std::vector<Tensor> masks, rainbows;
  std::vector<double> mask_angles, rainbow_angles;
  for (int64_t family = 0; family < kFamilies; ++family) {
    templates.mask_first[static_cast<size_t>(family)] = static_cast<int64_t>(masks.size());
    for (const double theta : rotations(symmetry_of(family * 5), rotation_step)) {
      masks.push_back(shape_coverage(attributes_at(family * 5, 0, 0, theta)));
      mask_angles.push_back(theta);
    }
    for (const double theta : rotations(kTurn, rotation_step)) {
      rainbows.push_back(centred(family * 5 + kRainbow, theta));
      rainbow_angles.push_back(theta);
    }
  }
  templates.mask_first[kFamilies] = static_cast<int64_t>(masks.size());

  const Tensor mask = at::stack(masks).to(device), rainbow = at::stack(rainbows, 1).to(device);
  templates.masks = at::fft_rfft2(mask).conj().resolve_conj();
  templates.mask_energy = mask.square().sum({1, 2});
  templates.mask_theta = angles_tensor(mask_angles, device);
  templates.rainbows = at::fft_rfft2(rainbow).conj().resolve_conj();
  templates.rainbow_energy = rainbow.square().sum({0, 2, 3});
  templates.rainbow_theta = angles_tensor(rainbow_angles, device);
  // A filled square is its colour in the middle.
  std::vector<Tensor> colours;
  for (int64_t colour = 0; colour < kRainbow; ++colour)
    colours.push_back(centred(filled_square + colour, 0).select(2, kSide / 2).select(1, kSide / 2));
  templates.colours = at::stack(colours).to(device);
  return templates;
}

GridMatch match_grid(const RenderTemplates& templates, const Tensor& images) {
  require_shape(images, {-1, 3, kSide, kSide}, "match_grid: images");
  const c10::NoGradGuard no_gradient;
  const at::Device device = templates.masks.device();
  const Tensor x = images.to(device, at::kFloat);
  const int64_t rows = x.size(0), across = 2 * kReach + 1;
  const Tensor distance = at::empty({rows, kFamilies, 5}, x.options()), theta = at::empty_like(distance);
  const Tensor place = at::empty({rows, kFamilies, 5}, x.options().dtype(at::kLong));
  const auto match = [&](int64_t first, int64_t count) {
    match_batch(templates, x.narrow(0, first, count), distance.narrow(0, first, count), place.narrow(0, first, count),
                theta.narrow(0, first, count));
  };

  // A picture at a time stays in a CPU's caches; a GPU wants more.
  if (device.is_cpu()) {
    for_each_row(rows, [&](int64_t row) { match(row, 1); });
  } else {
    constexpr int64_t batch = 16;
    for (int64_t first = 0; first < rows; first += batch) match(first, std::min(batch, rows - first));
  }
  const auto pixels = [&](const Tensor& index) { return index.sub(kReach).to(at::kFloat).reshape({rows, kClasses}); };
  return {distance.reshape({rows, kClasses}).clamp_min(0), pixels(place.remainder(across)), pixels(place.div(across, "floor")),
          theta.reshape({rows, kClasses})};
}

RenderVerdict judge_renders(const RenderTemplates& templates, const Tensor& images, int64_t refined) {
  require(refined >= 2 && refined <= kClasses, Failure::usage, "judge_renders: found ", refined, " classes to refine, expected 2 to 60");
  const c10::NoGradGuard no_gradient;
  const Tensor x = images.scalar_type() == at::kByte ? from_bytes(images) : images.detach().to(at::kFloat);
  require_shape(x, {-1, 3, kSide, kSide}, "render judge: images");
  const int64_t rows = x.size(0);

  const GridMatch grid = match_grid(templates, x);
  const Tensor order = grid.distance.argsort(1, false).narrow(1, 0, refined).cpu().contiguous();
  const Tensor start = at::stack({grid.tx, grid.ty, grid.theta}, 2).cpu().contiguous();
  const Tensor pixels = x.cpu().permute({0, 2, 3, 1}).contiguous();

  RenderVerdict verdict{
      at::empty({rows}, at::kLong), at::empty({rows}), at::empty({rows}), at::empty({rows}), at::empty({rows}), at::empty({rows})};
  for_each_row(rows, [&](int64_t row) {
    Fit best;
    int64_t best_class = 0;
    double second = std::numeric_limits<double>::infinity();
    for (int64_t candidate = 0; candidate < refined; ++candidate) {
      const int64_t label = order.const_data_ptr<int64_t>()[row * refined + candidate];
      const float* from = start.const_data_ptr<float>() + (row * kClasses + label) * 3;
      Fit fit = refine(pixels.const_data_ptr<float>() + row * kPixels, label, {from[0], from[1], from[2]});
      if (fit.distance < best.distance) {
        second = best.distance;
        best = std::move(fit);
        best_class = label;
      } else {
        second = std::min(second, fit.distance);
      }
    }
    const auto rmse = [](double squares) { return std::sqrt(squares / static_cast<double>(kPixels)); };
    const double range = symmetry_of(best_class);
    verdict.shape_class.data_ptr<int64_t>()[row] = best_class;
    verdict.shape_rmse.data_ptr<float>()[row] = static_cast<float>(rmse(best.distance));
    verdict.margin.data_ptr<float>()[row] = static_cast<float>(rmse(second) - rmse(best.distance));
    verdict.tx.data_ptr<float>()[row] = static_cast<float>(best.at[0]);
    verdict.ty.data_ptr<float>()[row] = static_cast<float>(best.at[1]);
    verdict.theta.data_ptr<float>()[row] = range > 0 ? static_cast<float>(best.at[2] - range * std::floor(best.at[2] / range)) : 0.0f;
  });
  return verdict;
}

}  // namespace evoke
