// What a study measures: tables of numbers, the curves that some of them are, and what is said of a source in terms of them.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace evoke {

/// A table of numbers; NaN where there is nothing to measure.
struct Measured {
  std::string title, first_column;
  std::vector<std::string> columns;
  std::vector<std::pair<std::string, std::vector<double>>> rows;  // name, a value a column
  bool curve = false;                                             // the names of the rows are numbers, and each column a curve over them
};

/// Its numbers by name: "prefix/row/column" -> value.
using Numbers = std::map<std::string, double>;
void add_numbers(Numbers&, const std::string& prefix, const Measured&);
/// One of them. Throws Failure::input for a name that is not there.
double number_named(const std::string& name, const Numbers&);

/// Markdown, padded so that it reads in a terminal; columns without any number are left out.
std::string markdown_of(const Measured&);
/// "0.123", "12.3", "1234", "-" for NaN.
std::string number_text(double);
/// The same without zeros at its end: "0.5", "180".
std::string short_number(double);

/// The curves of a table as a picture of its own (SVG): axes with ticks, a line a column, named at its end. x is the first column's name.
std::string curves_svg(const Measured&);

/// A sentence with its numbers put in: "{ppgn/oracle}" becomes the number of that name. Throws Failure::input for a name that is not there.
std::string with_numbers(const std::string& sentence, const Numbers&);

/// A claim in terms of the numbers, such as "guided/oracle > 0.9", "a/x >= 2 * b/x" or "a/x ~ b/x" (within a tenth of the larger).
/// "agrees", "does not agree", or "cannot be said" where a number is NaN. Throws Failure::input for what is no such claim.
std::string verdict_of(const std::vector<std::string>& claims, const Numbers&);

}  // namespace evoke
