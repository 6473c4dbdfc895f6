package main

import (
	"fmt"
	"os"
	"strings"
)

// completionCmd prints the lines that teach a shell to complete this program's commands and flags. The shell then asks
// the program itself, so the completions are always those of the installed version.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help shows where the script goes.
func (*completionCmd) Help() string {
	return `Examples:

    echo 'source <(doubledutch completion bash)' >> ~/.bashrc
    echo 'source <(doubledutch completion zsh)' >> ~/.zshrc
    doubledutch completion fish > ~/.config/fish/completions/doubledutch.fish`
}

// Run prints the script.
func (s *completionCmd) Run(c *console) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(c.out, strings.ReplaceAll(completionScripts[s.Shell], "SELF", shellQuote(self)))
	return err
}

var completionScripts = map[string]string{
	"bash": "complete -o default -C SELF doubledutch\n",
	"zsh": `autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
complete -o default -C SELF doubledutch
`,
	"fish": `function __doubledutch_complete
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct); and set COMP_LINE "$COMP_LINE "
    SELF
end
complete -f -c doubledutch -a "(__doubledutch_complete)"
`,
}

// shellQuote protects a path from the shell.
func shellQuote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
