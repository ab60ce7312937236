#include "core/records/contact_sheet.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "core/error.h"

namespace evoke {

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
