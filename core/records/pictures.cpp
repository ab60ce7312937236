#include "core/records/pictures.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/records/gif.h"
#include "core/storage/files.h"
#include "core/storage/safetensors.h"

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

namespace {

// uint8 [H,W,1] or [H,W,3] in the order that OpenCV has, in memory of its own: the caller's image stays as it is.
cv::Mat ordered(const Tensor& bytes, const std::string& where) {
  require_shape(bytes, {-1, -1, -1}, where);
  require(bytes.scalar_type() == at::kByte && (bytes.size(2) == 1 || bytes.size(2) == 3) && bytes.numel() > 0, Failure::runtime, where,
          ": found an image of ", c10::toString(bytes.scalar_type()), " ", shape_text(bytes.sizes()),
          ", expected bytes [H,W,1] or [H,W,3]");
  const Tensor held = bytes.cpu().contiguous();
  const int channels = static_cast<int>(held.size(2));
  const cv::Mat image(static_cast<int>(held.size(0)), static_cast<int>(held.size(1)), CV_8UC(channels), held.data_ptr());
  cv::Mat out;
  if (channels == 3)
    cv::cvtColor(image, out, cv::COLOR_RGB2BGR);
  else
    out = image.clone();
  return out;
}

}  // namespace

void save_png(const std::string& file, const Tensor& bytes) {
  std::vector<uchar> png;
  require(cv::imencode(".png", ordered(bytes, file), png), Failure::runtime, file, ": the image cannot be made into a PNG");
  write_file(file, {reinterpret_cast<const char*>(png.data()), png.size()});
}

std::string webp_of(const Tensor& bytes, int quality) {
  // OpenCV reads a quality above 100 as lossless, and has no grey in this format.
  cv::Mat image = ordered(bytes, "webp_of");
  if (image.channels() == 1) cv::cvtColor(image, image, cv::COLOR_GRAY2BGR);
  std::vector<uchar> webp;
  require(cv::imencode(".webp", image, webp, {cv::IMWRITE_WEBP_QUALITY, quality == 0 ? 101 : quality}), Failure::runtime,
          "webp_of: the image cannot be made into a WebP");
  return {webp.begin(), webp.end()};
}

namespace {

// What the first bytes of a file say that it is. A text may begin with "BM" too; it is then refused as a torn image.
bool begins_as_image(std::string_view head) {
  using namespace std::string_view_literals;
  for (const std::string_view mark :
       {"\x89PNG\r\n\x1a\n"sv, "\xff\xd8\xff"sv, "GIF87a"sv, "GIF89a"sv, "BM"sv, "II*\0"sv, "MM\0*"sv, "#?RADIANCE"sv,
        "\0\0\0\x0cjP  \r\n"sv, "\xff\x4f\xff\x51"sv, "\x76\x2f\x31\x01"sv, "\x59\xa6\x6a\x95"sv})
    if (head.starts_with(mark)) return true;
  if (head.size() >= 12 && head.starts_with("RIFF") && head.substr(8, 4) == "WEBP") return true;
  return head.size() >= 3 && head[0] == 'P' && head[1] >= '1' && head[1] <= '7' && std::isspace(static_cast<unsigned char>(head[2]));
}

// The format of an image that is known and not read; empty for anything else.
std::string unread_format(std::string_view head) {
  if (head.size() < 12 || head.substr(4, 4) != "ftyp") return {};
  const std::string_view brand = head.substr(8, 4);
  if (brand == "avif" || brand == "avis") return "AVIF";
  return brand == "heic" || brand == "heix" || brand == "hevc" || brand == "mif1" || brand == "msf1" ? "HEIC" : "";
}

// While it lives nothing reaches stderr: OpenCV, libpng and libtiff tell it what they dislike in a torn file, and so would speak beside the
// sentence that says it.
class Hush {
 public:
  Hush() : kept_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
    std::fflush(stderr);
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (kept_ >= 0 && nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
    if (nowhere >= 0) ::close(nowhere);
  }
  ~Hush() {
    std::fflush(stderr);
    if (kept_ < 0) return;
    ::dup2(kept_, STDERR_FILENO);
    ::close(kept_);
  }
  Hush(const Hush&) = delete;
  Hush& operator=(const Hush&) = delete;

 private:
  int kept_;
};

}  // namespace

Tensor load_picture(const std::string& file, int64_t channels) {
  if (!file.ends_with(".safetensors")) return from_bytes(load_image(file, channels).unsqueeze(0)).squeeze(0);
  const Tensors found = load_safetensors(file).tensors;
  require(found.contains("image"), Failure::input, file, ": found no tensor 'image', expected one of shape [C,H,W] in [0,1]");
  require_shape(found.at("image"), {channels, -1, -1}, file + ": image");
  return found.at("image").to(at::kFloat);
}

bool is_image(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string head(32, '\0');
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(in.gcount()));
  return begins_as_image(head) || !unread_format(head).empty();
}

Tensor load_image(const std::string& file, int64_t channels) {
  require(channels == 1 || channels == 3, Failure::runtime, "load_image: found ", channels, " channels, expected 1 or 3");
  std::string bytes = read_file(file);
  const std::string format = unread_format(bytes);
  require(format.empty(), Failure::input, file, ": found an image of the format ", format,
          ", which is not read here; convert it to JPEG or PNG");

  // The decoders complete a torn file with gray, or speak on stderr: look for the end mark of the two usual formats first.
  const std::string tail = bytes.substr(bytes.size() - std::min<size_t>(bytes.size(), 65536));
  const bool torn = (bytes.starts_with("\x89PNG") && tail.find("IEND") == std::string::npos) ||
                    (bytes.starts_with("\xff\xd8") && tail.find("\xff\xd9") == std::string::npos);
  require(!torn, Failure::input, file, ": the image is torn: its end is missing; fetch it again");
  if (bytes.starts_with("GIF8")) {
    const Tensor frame = first_gif_frame(bytes, file);
    if (channels == 3) return frame;
    const int height = static_cast<int>(frame.size(0)), width = static_cast<int>(frame.size(1));
    const Tensor out = at::empty({height, width, 1}, at::kByte);
    cv::Mat grey(height, width, CV_8UC1, out.data_ptr());
    cv::cvtColor(cv::Mat(height, width, CV_8UC3, frame.data_ptr()), grey, cv::COLOR_RGB2GRAY);
    return out;
  }

  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  cv::Mat image;
  std::string why = begins_as_image(bytes) ? "the image is torn or damaged" : "found no image";
  try {
    const Hush hush;
    if (!bytes.empty())
      image = cv::imdecode(cv::Mat(1, static_cast<int>(bytes.size()), CV_8UC1, bytes.data()),
                           channels == 3 ? cv::IMREAD_COLOR : cv::IMREAD_GRAYSCALE);
  } catch (const cv::Exception& e) {
    why = "found an image that cannot be read";
    detail(file + ": " + one_line(e.err));
  }
  require(!image.empty(), Failure::input, file, ": ", why, ", expected a format such as PNG, JPEG, GIF, BMP, TIFF or WebP");
  if (channels == 3) cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  const Tensor out = at::empty({image.rows, image.cols, channels}, at::kByte);
  for (int row = 0; row < image.rows; ++row)
    std::memcpy(static_cast<uint8_t*>(out.data_ptr()) + row * image.cols * channels, image.ptr(row), image.cols * channels);
  return out;
}

}  // namespace evoke
