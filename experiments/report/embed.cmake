# Writes the page's files as a C++ source.   cmake -DFOLDER=… -DOUT=… -P embed.cmake
set(source "// Made from report.html, report.css and report.js.\n#include \"experiments/report/page.h\"\n\nnamespace evoke {\n\n")
foreach(part IN ITEMS text=html style=css script=js)
  string(REGEX MATCH "^(.*)=(.*)$" unused ${part})
  set(name ${CMAKE_MATCH_1})
  file(READ ${FOLDER}/report.${CMAKE_MATCH_2} content)
  string(APPEND source "const std::string_view page_${name} = R\"evoke(${content})evoke\";\n")
endforeach()
file(WRITE ${OUT} "${source}\n}  // namespace evoke\n")
