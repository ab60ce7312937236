// The page itself: its text, its looks and what it does, with the data that it shows.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace evoke {

/// report.html, report.css and report.js, as they were when the program was built.
extern const std::string_view page_text, page_style, page_script;

/// One file of everything. summary and pieces: as data_of made them. exemplars: where their run lies from the page, for the next time.
std::string page_of(const std::string& title, const std::string& exemplars, const std::string& summary,
                    const std::vector<std::string>& pieces);
/// The exemplars that a page shows; empty where there is no page, or it shows none.
std::string remembered_exemplars(const std::string& file);

/// JSON that may stand in a page's script element: nothing in it can end that element, and what is no UTF-8 is replaced.
std::string data_of(const nlohmann::json&);
/// Text that may stand in a page or in an attribute of it.
std::string escaped(std::string_view text);
/// Bytes in base64 (RFC 4648, Section 4).
std::string base64(std::string_view bytes);

}  // namespace evoke
