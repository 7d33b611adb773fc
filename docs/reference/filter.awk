# Makes of a header's ordinary comments those that Doxygen reads. A comment line documents what follows, one behind a
# declaration that declaration, and the first block of a file the file. What Doxygen would take for a command or a tag is text.
function text(comment) {
    gsub(/[\\@#<>&%$"]/, "\\\\&", comment)
    return comment
}
NR == 1 && /^\/\/ / { print "/// \\file"; head = 1 }
/^[ \t]*\/\/($|[^\/])/ {
    if ($0 ~ /clang-format|NOLINT/ || $0 ~ /\/\/ ---/) { print ""; next }
    place = index($0, "//")
    print substr($0, 1, place - 1) "///" text(substr($0, place + 2))
    next
}
head && !/^\/\// { head = 0; print "" }
/[;,{})][ \t]*\/\/ / && !/"[^"]*\/\/[^"]*"/ && !/http/ {
    place = match($0, /\/\/ /)
    if ($0 ~ /[;,][ \t]*\/\/ /) print substr($0, 1, place - 1) "///<" text(substr($0, place + 2))
    else print substr($0, 1, place - 1)
    next
}
# flatback.h, which is C.
NR == 1 && /^\/\* / { sub(/\/\*/, "/** \\file\n *"); print; next }
/^[ \t]*\/\* / && !/---|NOLINT/ { sub(/\/\*/, "/**"); print; next }
/[;,][ \t]*\/\* / { sub(/\/\*/, "/**<"); print; next }
{ print }
