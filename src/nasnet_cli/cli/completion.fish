function _nasnet_completion
    set -l typed (commandline --current-token)
    # Of --model=NAME, the name is completed.
    set -l before (string match --regex -- '^-[^=]*=' $typed)

    COMP_WORDS=(commandline --cut-at-cursor --current-process) COMP_CWORD="$typed" \
        _NASNET_COMPLETE=fish_complete command nasnet | while read --delimiter , type value
        switch $type
            case dir
                string replace --regex -- '^' "$before" (__fish_complete_directories $value)
            case file
                string replace --regex -- '^' "$before" (__fish_complete_path $value)
            case plain
                echo "$before$value"
        end
    end
end

complete --no-files --command nasnet --arguments '(_nasnet_completion)'
