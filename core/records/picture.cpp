#include "core/records/picture.h"

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
#include "core/records/gif.h"
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

}  // namespace

namespace {

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
  std::string why = begins_as_image(bytes) ? "the image is torn" : "found no image";
  try {
    const Hush hush;
    if (!bytes.empty())
      image = cv::imdecode(cv::Mat(1, static_cast<int>(bytes.size()), CV_8UC1, bytes.data()),
                           channels == 3 ? cv::IMREAD_COLOR : cv::IMREAD_GRAYSCALE);
  } catch (const cv::Exception& e) {
    why = "the image cannot be read (" + e.err + ")";
  }
  require(!image.empty(), Failure::input, file, ": ", why, ", expected a format such as PNG, JPEG, GIF, BMP, TIFF or WebP");
  if (channels == 3) cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  const Tensor out = at::empty({image.rows, image.cols, channels}, at::kByte);
  for (int row = 0; row < image.rows; ++row)
    std::memcpy(static_cast<uint8_t*>(out.data_ptr()) + row * image.cols * channels, image.ptr(row), image.cols * channels);
  return out;
}

// ---- Contact sheets --------------------------------------------------------------------------------------------------------------------

namespace {

const cv::Scalar ground(250, 250, 248), frame(214, 214, 210), ink(38, 38, 42), soft_ink(92, 92, 98);
constexpr int margin = 18, gap = 10, text_gap = 5, fine = 4;  // pixels; fine: text is drawn this much larger and averaged down

// A way to write: height of a capital letter and stroke in pixels, and its colour.
struct Hand {
  double capital, stroke;
  cv::Scalar colour;
  int line() const { return static_cast<int>(std::lround(capital * 1.75)); }
};
const Hand title_hand{12, 1.7, ink}, name_hand{8.5, 1.25, ink}, caption_hand{7.5, 1.0, soft_ink};

constexpr int face = cv::FONT_HERSHEY_SIMPLEX;  // its capitals are 21 pixels high at scale 1
double scale_of(const Hand& hand) { return hand.capital * fine / 21.0; }
int stroke_of(const Hand& hand) { return static_cast<int>(std::lround(hand.stroke * fine)); }

// The face knows ASCII only.
std::string plain(const std::string& words) {
  static const std::pair<std::string_view, std::string_view> spellings[] = {
      {"×", "x"}, {"…", "..."}, {"–", "-"}, {"—", "-"}, {"−", "-"}, {"·", "*"}, {"σ", "sigma"}, {"θ", "theta"}, {"ε", "eps"}, {"τ", "tau"}};
  std::string out;
  for (size_t i = 0; i < words.size();) {
    const auto* known = std::find_if(std::begin(spellings), std::end(spellings),
                                     [&](const auto& spelling) { return words.compare(i, spelling.first.size(), spelling.first) == 0; });
    if (known != std::end(spellings)) {
      out += known->second;
      i += known->first.size();
    } else {
      const auto c = static_cast<unsigned char>(words[i++]);
      if (c >= 0x20 && c < 0x7f)
        out += static_cast<char>(c);
      else if ((c & 0xc0) != 0x80)
        out += '?';
    }
  }
  return out;
}

int width_of(const std::string& line, const Hand& hand) {
  int below = 0;
  return (cv::getTextSize(line, face, scale_of(hand), stroke_of(hand), &below).width + fine - 1) / fine;
}

// Lines no wider than `width`, broken at spaces (a word that is too long is cut), at most `most` of them.
std::vector<std::string> wrapped(const std::string& words, const Hand& hand, int width, size_t most) {
  std::vector<std::string> lines;
  std::string line;
  const std::string all = plain(words) + " ";
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = all.find(' ', begin);
    std::string word = all.substr(begin, end - begin);
    begin = end + 1;
    if (word.empty()) continue;
    if (!line.empty() && width_of(line + " " + word, hand) > width) {
      lines.push_back(line);
      line.clear();
    }
    if (line.empty() && width_of(word, hand) > width) {
      while (word.size() > 1 && width_of(word + "..", hand) > width) word.pop_back();
      word += "..";
    }
    line += (line.empty() ? "" : " ") + word;
  }
  if (!line.empty()) lines.push_back(line);
  if (lines.size() > most) {
    lines.resize(most);
    std::string& last = lines.back();
    while (last.size() > 1 && width_of(last + " ..", hand) > width) last.pop_back();
    last += " ..";
  }
  return lines;
}

// One line; (x, y): the left end of the base line.
void write_line(cv::Mat& sheet, const std::string& line, int x, int y, const Hand& hand) {
  // Drawn large into a mask and averaged down, which is smoother than OpenCV's own small letters.
  const int above = static_cast<int>(hand.capital * 1.5), below = static_cast<int>(hand.capital * 0.6) + 1;
  const cv::Rect wanted(x - 1, y - above, width_of(line, hand) + 3, above + below);
  cv::Mat mask = cv::Mat::zeros(wanted.height * fine, wanted.width * fine, CV_8UC1), small;
  cv::putText(mask, line, {fine, above * fine}, face, scale_of(hand), cv::Scalar(255), stroke_of(hand), cv::LINE_AA);
  cv::resize(mask, small, wanted.size(), 0, 0, cv::INTER_AREA);
  const cv::Rect seen = wanted & cv::Rect(0, 0, sheet.cols, sheet.rows);
  for (int row = seen.y; row < seen.br().y; ++row)
    for (int column = seen.x; column < seen.br().x; ++column) {
      const double share = small.at<uchar>(row - wanted.y, column - wanted.x) / 255.0;
      auto& pixel = sheet.at<cv::Vec3b>(row, column);
      for (int c = 0; c < 3; ++c) pixel[c] = cv::saturate_cast<uchar>(pixel[c] * (1 - share) + hand.colour[c] * share);
    }
}

enum class Align { left, centre, right };
// Lines from `top` downwards, within [x, x + width).
void write_lines(cv::Mat& sheet, const std::vector<std::string>& lines, int x, int top, int width, const Hand& hand, Align align) {
  for (size_t i = 0; i < lines.size(); ++i) {
    const int free = width - width_of(lines[i], hand);
    const int shift = align == Align::left ? 0 : align == Align::centre ? free / 2 : free;
    write_line(sheet, lines[i], x + shift, top + static_cast<int>(std::lround(hand.capital * 1.2)) + static_cast<int>(i) * hand.line(),
               hand);
  }
}

int widest(const std::vector<std::string>& words, const Hand& hand) {
  int width = 0;
  for (const auto& one : words) width = std::max(width, width_of(plain(one), hand));
  return width;
}

}  // namespace

Tensor contact_sheet(const std::vector<Cell>& cells, int64_t columns, const std::vector<std::string>& row_names,
                     const std::vector<std::string>& column_names, int64_t scale, const std::string& title) {
  require(columns >= 1 && scale >= 1 && !cells.empty(), Failure::runtime, "contact_sheet: found ", cells.size(), " cells, ", columns,
          " columns and scale ", scale, ", expected at least 1 of each");
  const int across = static_cast<int>(columns), zoom = static_cast<int>(scale);
  const int rows = static_cast<int>((cells.size() + columns - 1) / columns);
  require(row_names.empty() || static_cast<int>(row_names.size()) == rows, Failure::runtime, "contact_sheet: found ", row_names.size(),
          " row names for ", rows, " rows");
  require(column_names.empty() || static_cast<int>(column_names.size()) == across, Failure::runtime, "contact_sheet: found ",
          column_names.size(), " column names for ", across, " columns");

  // A column is as wide as its widest picture; words may widen it a little, then they wrap.
  std::vector<std::string> captions;
  int picture = 1;
  for (const Cell& cell : cells) {
    captions.push_back(cell.caption);
    if (!cell.image.defined()) continue;
    require_shape(cell.image, {-1, -1, -1}, "contact_sheet");
    require(cell.image.scalar_type() == at::kByte && (cell.image.size(2) == 1 || cell.image.size(2) == 3), Failure::runtime,
            "contact_sheet: found an image of ", c10::toString(cell.image.scalar_type()), " ", shape_text(cell.image.sizes()),
            ", expected bytes [H,W,1] or [H,W,3]");
    picture = std::max(picture, static_cast<int>(cell.image.size(1)) * zoom);
  }
  const int words = std::max(widest(captions, caption_hand), widest(column_names, name_hand));
  const int cell_width = std::max(picture, std::min(words, 112));
  const int names_width = row_names.empty() ? 0 : std::min(widest(row_names, name_hand), 170);
  const int left = margin + (names_width ? names_width + gap + 4 : 0);
  const int width = std::max(left + across * (cell_width + gap) - gap + margin, 2 * margin + (title.empty() ? 0 : 240));

  // Lines of words first: they decide how high everything is.
  const auto title_lines = wrapped(title, title_hand, width - 2 * margin, 3);
  std::vector<std::vector<std::string>> heads, notes, names;
  size_t head_lines = 0;
  for (const auto& name : column_names) {
    heads.push_back(wrapped(name, name_hand, cell_width, 3));
    head_lines = std::max(head_lines, heads.back().size());
  }
  for (const Cell& cell : cells) notes.push_back(wrapped(cell.caption, caption_hand, cell_width, 4));
  for (const auto& name : row_names) names.push_back(wrapped(name, name_hand, names_width, 5));

  // Where each row begins, and how high its pictures are.
  const int heads_top = margin + (title_lines.empty() ? 0 : static_cast<int>(title_lines.size()) * title_hand.line() + gap);
  int y = heads_top + (head_lines ? static_cast<int>(head_lines) * name_hand.line() + text_gap : 0);
  std::vector<int> tops, heights;
  for (int row = 0; row < rows; ++row) {
    int height = 1;
    size_t lines = 0;
    for (size_t i = row * columns; i < std::min<size_t>((row + 1) * columns, cells.size()); ++i) {
      if (cells[i].image.defined()) height = std::max(height, static_cast<int>(cells[i].image.size(0)) * zoom);
      lines = std::max(lines, notes[i].size());
    }
    if (!names.empty()) height = std::max(height, static_cast<int>(names[row].size()) * name_hand.line());
    tops.push_back(y);
    heights.push_back(height);
    y += height + (lines ? text_gap + static_cast<int>(lines) * caption_hand.line() : 0) + gap;
  }
  const int height = y - gap + margin;
  require(width <= 32767 && height <= 65535, Failure::runtime, "contact_sheet: found ", width, "×", height,
          " pixels, expected at most 32767×65535; show fewer pictures");

  const Tensor out = at::empty({height, width, 3}, at::kByte);
  cv::Mat sheet(height, width, CV_8UC3, out.data_ptr());
  sheet = ground;
  write_lines(sheet, title_lines, margin, margin - 2, width - 2 * margin, title_hand, Align::left);
  for (int column = 0; column < static_cast<int>(heads.size()); ++column) {
    const int lines = static_cast<int>(heads[column].size());  // the words stand on the pictures
    write_lines(sheet, heads[column], left + column * (cell_width + gap),
                heads_top + (static_cast<int>(head_lines) - lines) * name_hand.line(), cell_width, name_hand, Align::centre);
  }
  for (int row = 0; row < rows; ++row) {
    if (!names.empty()) {
      const int free = heights[row] - static_cast<int>(names[row].size()) * name_hand.line();
      write_lines(sheet, names[row], margin, tops[row] + free / 2, names_width, name_hand, Align::right);
    }
    for (int column = 0; column < across; ++column) {
      const size_t i = static_cast<size_t>(row) * across + column;
      if (i >= cells.size()) break;
      const int x = left + column * (cell_width + gap);
      int bottom = tops[row] + heights[row];
      if (cells[i].image.defined()) {
        const Tensor held = cells[i].image.cpu().expand({-1, -1, 3}).contiguous();
        const cv::Mat image(static_cast<int>(held.size(0)), static_cast<int>(held.size(1)), CV_8UC3, held.data_ptr());
        const cv::Rect place(x + (cell_width - image.cols * zoom) / 2, tops[row], image.cols * zoom, image.rows * zoom);
        cv::rectangle(sheet, {place.x - 1, place.y - 1, place.width + 2, place.height + 2}, frame);
        cv::Mat target = sheet(place);
        cv::resize(image, target, place.size(), 0, 0, cv::INTER_NEAREST);
        bottom = place.br().y;
      }
      write_lines(sheet, notes[i], x, bottom + text_gap, cell_width, caption_hand, Align::centre);
    }
  }
  return out;
}

}  // namespace evoke
