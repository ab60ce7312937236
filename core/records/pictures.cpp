#include "core/records/pictures.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/storage/files.h"

namespace evoke {

std::string opencv_version() { return cv::getVersionString(); }

Tensor to_bytes(const Tensor& images) {
  require_shape(images, {-1, -1, -1, -1}, "to_bytes");
  return at::nan_to_num(images.detach()).clamp(0, 1).mul(255).round().to(at::kByte).permute({0, 2, 3, 1}).contiguous().cpu();
}

Tensor from_bytes(const Tensor& bytes) {
  require_shape(bytes, {-1, -1, -1, -1}, "from_bytes");
  return bytes.permute({0, 3, 1, 2}).contiguous().to(at::kFloat).div(255);
}

void save_png(const std::string& file, const Tensor& bytes) {
  require_shape(bytes, {-1, -1, -1}, file);
  require(bytes.scalar_type() == at::kByte && (bytes.size(2) == 1 || bytes.size(2) == 3) && bytes.numel() > 0, Failure::runtime, file,
          ": found an image of ", c10::toString(bytes.scalar_type()), " ", shape_text(bytes.sizes()),
          ", expected bytes [H,W,1] or [H,W,3]");
  const Tensor held = bytes.cpu().contiguous();
  const int channels = static_cast<int>(held.size(2));
  const cv::Mat image(static_cast<int>(held.size(0)), static_cast<int>(held.size(1)), CV_8UC(channels), held.data_ptr());
  cv::Mat ordered;  // memory of its own: the caller's image stays as it is
  if (channels == 3)
    cv::cvtColor(image, ordered, cv::COLOR_RGB2BGR);
  else
    ordered = image;
  std::vector<uchar> png;
  require(cv::imencode(".png", ordered, png), Failure::runtime, file, ": the image cannot be made into a PNG");
  write_file(file, {reinterpret_cast<const char*>(png.data()), png.size()});
}

namespace {

// While it lives, what libpng, libjpeg and libtiff print on stderr by themselves goes nowhere: a reader's failure is said by us, in a
// sentence.
class LibrariesHushed {
 public:
  LibrariesHushed() : kept_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) {
    std::fflush(stderr);
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (kept_ >= 0 && nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
    if (nowhere >= 0) ::close(nowhere);
  }
  ~LibrariesHushed() {
    std::fflush(stderr);
    if (kept_ < 0) return;
    ::dup2(kept_, STDERR_FILENO);
    ::close(kept_);
  }
  LibrariesHushed(const LibrariesHushed&) = delete;
  LibrariesHushed& operator=(const LibrariesHushed&) = delete;

 private:
  int kept_;
};

}  // namespace

Tensor load_image(const std::string& file, int64_t channels) {
  require(channels == 1 || channels == 3, Failure::runtime, "load_image: found ", channels, " channels, expected 1 or 3");
  std::string bytes = read_file(file);

  // The decoders complete a torn file with gray, or speak on stderr: look for the end mark of the two usual formats first.
  const std::string tail = bytes.substr(bytes.size() - std::min<size_t>(bytes.size(), 65536));
  const bool torn = (bytes.starts_with("\x89PNG") && tail.find("IEND") == std::string::npos) ||
                    (bytes.starts_with("\xff\xd8") && tail.find("\xff\xd9") == std::string::npos);
  require(!torn, Failure::input, file, ": the image is torn: its end is missing; fetch it again");

  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  cv::Mat image;
  std::string why = "found no image";
  try {
    const LibrariesHushed hushed;
    if (!bytes.empty())
      image = cv::imdecode(cv::Mat(1, static_cast<int>(bytes.size()), CV_8UC1, bytes.data()),
                           channels == 3 ? cv::IMREAD_COLOR : cv::IMREAD_GRAYSCALE);
  } catch (const cv::Exception& e) {
    why = "found an image that cannot be read";
    detail(file + ": " + one_line(e.err));
  }
  require(!image.empty(), Failure::input, file, ": ", why, ", expected a format such as PNG, JPEG, BMP, TIFF or WebP");
  if (channels == 3) cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  const Tensor out = at::empty({image.rows, image.cols, channels}, at::kByte);
  for (int row = 0; row < image.rows; ++row)
    std::memcpy(static_cast<uint8_t*>(out.data_ptr()) + row * image.cols * channels, image.ptr(row), image.cols * channels);
  return out;
}

}  // namespace evoke
