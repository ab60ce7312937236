// evoke doctor: versions, devices and libraries, and whether they compute what they should.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <torch/version.h>
#include <unistd.h>

#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers/philox.h"
#include "core/numbers/stream.h"
#include "core/records/pictures.h"
#include "core/storage/hdf5.h"
#include "experiments/options.h"
#include "experiments/verbs.h"

namespace evoke {

namespace {

// The published answer of Philox4x32-10 to a counter and key of zeros, and the same normal numbers here as on the CPU.
bool streams_are_right(at::Device device) {
  const PhiloxWords words = philox({{0, 0, 0, 0}}, 0, 0);
  Stream here = Stream::range(7, 0, 3, device, 5), there = Stream::range(7, 0, 3, at::kCPU, 5);
  return words.word[0] == 0x6627e8d5 && words.word[3] == 0x9b00dbd8 && at::equal(here.normal({5}).cpu(), there.normal({5}));
}

// A product of matrices of small whole numbers, which float32 holds exactly.
bool products_are_right(at::Device device) {
  const Tensor a = at::arange(64, at::TensorOptions(at::kFloat)).reshape({8, 8}), b = a.to(at::kDouble);
  return at::equal(at::matmul(a.to(device), a.to(device)).cpu().to(at::kDouble), at::matmul(b, b));
}

// What one device says of itself when asked to compute.
nlohmann::json examined(const std::string& name, at::Device device) {
  nlohmann::json found{{"name", name}};
  try {
    found["random_streams"] = streams_are_right(device);
    found["matrix_product"] = products_are_right(device);
  } catch (const c10::Error& error) {
    found["error"] = error.what_without_backtrace();
  }
  found["works"] = found.value("random_streams", false) && found.value("matrix_product", false);
  return found;
}

nlohmann::json examination() {
  const double gib =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE)) / (1024.0 * 1024.0 * 1024.0);
  nlohmann::json found{{"evoke", EVOKE_VERSION},
                       {"libtorch", TORCH_VERSION},
                       {"compiler", text("g++ ", __VERSION__)},
                       {"opencv", opencv_version()},
                       {"hdf5", hdf5_version()},
                       {"share", share_folder()},
                       {"threads", at::get_num_threads()},
                       {"cores", sysconf(_SC_NPROCESSORS_ONLN)},
                       {"memory_gib", std::round(10 * gib) / 10}};
  // Which CUDA LibTorch was built for; its hooks speak of it only where there is a device.
  found["cuda_devices"] = at::hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0;
  found["devices"].push_back(examined("cpu", at::kCPU));
  for (int i = 0; i < found["cuda_devices"].get<int>(); ++i)
    found["devices"].push_back(examined(text("cuda:", i), at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(i))));
  return found;
}

std::string as_lines(const nlohmann::json& found) {
  std::string out;
  const auto line = [&](const std::string& name, const std::string& value) {
    out += name + std::string(18 - name.size(), ' ') + value + "\n";
  };
  line("evoke", found["evoke"]);
  line("LibTorch", found["libtorch"]);
  line("compiler", found["compiler"]);
  line("OpenCV", found["opencv"]);
  line("HDF5", found["hdf5"]);
  line("recipes, weights", found["share"]);
  line("CPU", text(found["cores"], " cores, ", found["threads"], " threads in use, ", found["memory_gib"], " GiB of memory"));
  line("CUDA devices", found["cuda_devices"].dump());
  for (const nlohmann::json& device : found["devices"]) {
    const std::string trouble = device.value("error", "random streams or matrix products come out wrong");
    line(device["name"], device["works"] ? "random streams and matrix products are right" : "DOES NOT WORK: " + trouble);
  }
  out.pop_back();
  return out;
}

}  // namespace

Action doctor_verb(CLI::App& command) {
  auto options = std::make_shared<CommonOptions>();
  add_common(command, *options, Takes::nothing);
  return [options] {
    begin_verb(*options);
    const c10::NoGradGuard no_gradient;
    const nlohmann::json found = examination();
    answer(*options, as_lines(found), found);
    for (const nlohmann::json& device : found["devices"])
      require(device["works"].get<bool>(), device["name"] == "cpu" ? Failure::runtime : Failure::device, "doctor: device ",
              device["name"].get<std::string>(), " does not compute what it should; see above");
    return 0;
  };
}

}  // namespace evoke
