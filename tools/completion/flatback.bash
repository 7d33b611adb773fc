# Completion of ./flatback for bash. What it offers is read from the help texts, so that it is what the command knows.
#     . tools/completion/flatback.bash

_flatback_help=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../help" && pwd)

_flatback() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local text=flatback word index values
    for ((index = 1; index < COMP_CWORD; ++index)); do
        word=${COMP_WORDS[index]}
        case $text in
            flatback) [[ -f $_flatback_help/$word.txt ]] && text=$word ;;
            machine) [[ -f $_flatback_help/machine/$word.txt ]] && text=machine/$word ;;
        esac
    done
    COMPREPLY=()
    # "--processor TEXT:{haswell,skylake-x,ice-lake}"
    values=$(sed -n "s/^  \(-[a-zA-Z],\)\{0,1\}$previous [A-Z]*:{\([^}]*\)}.*/\2/p" "$_flatback_help/$text.txt" 2>/dev/null)
    if [[ $previous == --* && -n $values ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${values//,/ }" -- "$current")
    elif [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--help $(sed -n 's/^  \(-[a-zA-Z],\)\{0,1\}\(--[a-z0-9-]*\).*/\2/p' \
            "$_flatback_help/$text.txt")" -- "$current" | sort -u)
    elif [[ $text == flatback || $text == machine ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(sed -n '/^Subcommands:/,$s/^  \([a-z][a-z_]*\).*/\1/p' \
            "$_flatback_help/$text.txt")" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}

complete -o filenames -F _flatback flatback ./flatback
