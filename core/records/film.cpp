#include "core/records/film.h"

#include <ATen/ATen.h>
#include <unistd.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "core/error.h"
#include "core/storage/files.h"

namespace evoke {

namespace {

Tensor checked(const std::string& file, const Tensor& pictures, double rate) {
  require(pictures.dim() == 4 && pictures.size(0) > 0 && pictures.size(3) == 3 && pictures.scalar_type() == at::kByte, Failure::usage, file,
          ": found pictures ", shape_text(pictures.sizes()), ", expected bytes [T,H,W,3]");
  require(rate > 0 && rate <= 1000, Failure::usage, file, ": found ", rate, " pictures a second, expected more than 0 and at most 1000");
  return pictures.contiguous();
}

}  // namespace

void save_webp(const std::string& file, const Tensor& pictures, double rate) {
  const Tensor frames = checked(file, pictures, rate);
  const int height = static_cast<int>(frames.size(1)), width = static_cast<int>(frames.size(2));
  WebPAnimEncoderOptions options;
  bool fine = WebPAnimEncoderOptionsInit(&options) != 0;
  const std::unique_ptr<WebPAnimEncoder, void (*)(WebPAnimEncoder*)> encoder(WebPAnimEncoderNew(width, height, &options),
                                                                             WebPAnimEncoderDelete);
  WebPConfig config;
  fine = fine && encoder && WebPConfigInit(&config) != 0 && WebPConfigLosslessPreset(&config, 6) != 0;
  const double wait = 1000 / rate;
  for (int64_t t = 0; fine && t < frames.size(0); ++t) {
    WebPPicture picture;
    fine = WebPPictureInit(&picture) != 0;
    if (!fine) break;
    picture.use_argb = 1, picture.width = width, picture.height = height;
    fine = WebPPictureImportRGB(&picture, frames[t].data_ptr<uint8_t>(), 3 * width) != 0 &&
           WebPAnimEncoderAdd(encoder.get(), &picture, static_cast<int>(std::lround(static_cast<double>(t) * wait)), &config) != 0;
    WebPPictureFree(&picture);
  }
  fine = fine && WebPAnimEncoderAdd(encoder.get(), nullptr, static_cast<int>(std::lround(static_cast<double>(frames.size(0)) * wait)),
                                    nullptr) != 0;
  WebPData data;
  WebPDataInit(&data);
  fine = fine && WebPAnimEncoderAssemble(encoder.get(), &data) != 0;
  const std::string bytes = fine ? std::string(reinterpret_cast<const char*>(data.bytes), data.size) : std::string();
  WebPDataClear(&data);
  require(fine, Failure::runtime, file, ": cannot be made a WebP animation of ", frames.size(0), " pictures of ", width, "×", height);
  write_file(file, bytes);
}

void save_mp4(const std::string& file, const Tensor& pictures, double rate) {
  const Tensor frames = checked(file, pictures, rate);
  const int height = static_cast<int>(frames.size(1)), width = static_cast<int>(frames.size(2));
  const cv::Size even((width + 1) / 2 * 2, (height + 1) / 2 * 2);
  // OpenCV writes to a name and not to memory: beside the file, and renamed once it is whole.
  const std::string beside = text(file, ".part-", getpid(), ".mp4");
  {
    cv::VideoWriter writer(beside, cv::VideoWriter::fourcc('m', 'p', '4', 'v'), rate, even);
    require(writer.isOpened(), Failure::runtime, file, ": cannot be written as MP4; is the folder there, and has OpenCV a video encoder?");
    for (int64_t t = 0; t < frames.size(0); ++t) {
      const cv::Mat rgb(height, width, CV_8UC3, frames[t].data_ptr<uint8_t>());
      cv::Mat bgr;
      cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
      cv::copyMakeBorder(bgr, bgr, 0, even.height - height, 0, even.width - width, cv::BORDER_REPLICATE);
      writer.write(bgr);
    }
  }
  std::error_code trouble;
  std::filesystem::rename(beside, file, trouble);
  require(!trouble, Failure::runtime, file, ": cannot be written: ", trouble.message());
}

}  // namespace evoke
