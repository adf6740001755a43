#compdef nasnet

_nasnet_completion() {
    local -a response names described
    local type value description

    response=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) \
        _NASNET_COMPLETE=zsh_complete command nasnet)}")
    # Of --model=NAME, the name is completed.
    compset -P 1 '-*='

    for type value description in $response; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files ;;
            plain)
                if [[ $description == _ ]]; then
                    names+=("$value")
                else
                    described+=("$value:$description")
                fi
                ;;
        esac
    done

    (( $#described )) && _describe -V unsorted described
    (( $#names )) && compadd -V unsorted -a names
}

# A file of fpath is the body of _nasnet; else this is evaluated.
if [[ $funcstack[1] == _nasnet ]]; then
    _nasnet_completion "$@"
else
    compdef _nasnet_completion nasnet
fi
