_nasnet_completion() {
    local IFS=$'\n' words=() word joined type value
    # bash ends words at = and :, which belong to --model=NAME and https://HOST.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ $word && ($joined || $word == [=:]*) ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        [[ $word == *[=:] ]] && joined=1 || joined=
    done
    # What lies before the part that bash replaces.
    [[ $word == [=:]* ]] && word=
    local before=${words[-1]%"$word"}
    [[ $before == -*=* ]] && before=${before#*=}

    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
        _NASNET_COMPLETE=bash_complete command "$1")
}

complete -o nosort -F _nasnet_completion nasnet
