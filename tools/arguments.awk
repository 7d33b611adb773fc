# What a command's arguments ask for that needs no build. Its help text (-v help=FILE) says which options there are and
# which take a value. Prints "help" or "version" where that is asked for, or "unknown OPTION NEAREST", or nothing.
# NEAREST is "-" where nothing is near.
#     awk -v help=FILE -f arguments.awk -- ARGUMENT...
# With -v names="NAME ..." instead it prints the name that is nearest to the one argument, or "-".

function least(a, b) { return a < b ? a : b }

# How many characters must be put in, left out or changed to make one word the other.
function distance(one, other,    i, j, rows, change) {
    for (j = 0; j <= length(other); ++j) rows[0, j] = j
    for (i = 1; i <= length(one); ++i) {
        rows[i, 0] = i
        for (j = 1; j <= length(other); ++j) {
            change = substr(one, i, 1) == substr(other, j, 1) ? 0 : 1
            rows[i, j] = least(least(rows[i - 1, j] + 1, rows[i, j - 1] + 1), rows[i - 1, j - 1] + change)
            # Two characters in the wrong order are one slip.
            if (i > 1 && j > 1 && substr(one, i, 1) == substr(other, j - 1, 1) && \
                substr(one, i - 1, 1) == substr(other, j, 1)) rows[i, j] = least(rows[i, j], rows[i - 2, j - 2] + 1)
        }
    }
    return rows[length(one), length(other)]
}

function nearest(word, words, count,    i, far, best, found) {
    best = int(length(word) / 2) + 1
    found = "-"
    for (i = 1; i <= count; ++i) {
        far = index(words[i], word) == 1 ? 0 : distance(word, words[i])
        if (far < best) { best = far; found = words[i] }
    }
    return found
}

# The options of a help text: "  -h,--help  …", "  --json FILE  …"; a type stands one space behind the name.
function read_options(    line, option, rest) {
    while ((getline line < help) > 0) {
        if (!match(line, /^  (-[a-zA-Z],)?--[a-z0-9-]+/)) continue
        option = substr(line, 3, RLENGTH - 2)
        sub(/^-[a-zA-Z],/, "", option)
        options[++option_count] = option
        rest = substr(line, RLENGTH + 1)
        takes_value[option] = rest ~ /^ [A-Z]/ && rest !~ /^ (Needs:|Excludes:|REQUIRED)/
    }
}

BEGIN {
    if (names != "") {
        count = split(names, words, " ")
        print nearest(ARGV[1], words, count)
        exit
    }
    read_options()
    for (i = 1; i < ARGC; ++i) {
        word = ARGV[i]
        if (word == "--") exit
        if (word == "-h" || word == "--help") { print "help"; exit }
        if (word == "--version") { print "version"; exit }
        if (word !~ /^--/) continue
        name = word
        sub(/=.*/, "", name)
        if (!(name in takes_value)) { unknown = unknown == "" ? name : unknown; continue }
        if (takes_value[name] && name == word) ++i
    }
    if (unknown != "") print "unknown", unknown, nearest(unknown, options, option_count)
}
