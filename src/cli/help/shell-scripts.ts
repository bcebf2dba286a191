/** The completion scripts of the shells. Each runs `dsm completion SHELL -- WORDS` at every use. */

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell): string {
  return `# ${shell} completion for dsm, as "dsm completion ${shell}" prints it.\n${SCRIPTS[shell]}`;
}

const SCRIPTS: Record<Shell, string> = {
  bash: `_dsm() {
  local program=\${COMP_WORDS[0]/#\\~/$HOME} word=\${COMP_WORDS[COMP_CWORD]} rest value quoted
  type -P "$program" > /dev/null || program=dsm
  [[ $word == [=:]* ]] && word=
  COMPREPLY=()
  {
    IFS= read -r rest
    while IFS=$'\\t' read -r value _; do
      printf -v quoted %q "$value"
      COMPREPLY+=("$quoted")
    done
  } < <("$program" completion bash -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null)
  local -a kinds=()
  case $rest in
    files) kinds=(-f) ;;
    folders) kinds=(-d) ;;
    program) kinds=(-f -c) ;;
    *) return ;;
  esac
  compopt -o filenames 2> /dev/null
  while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen "\${kinds[@]}" -- "$word")
}
complete -F _dsm dsm
`,
  zsh: `_dsm() {
  local -a lines described
  local program=\${(Q)words[1]} line
  program=\${program/#\\~\\//$HOME/}
  (( $+commands[$program] )) || [[ -x $program ]] || program=dsm
  lines=("\${(@f)$("$program" completion zsh -- "\${(@Q)words[2,CURRENT]}" 2> /dev/null)}")
  [[ $words[CURRENT] == --*=* ]] && compset -P 1 '*='
  for line in "\${(@)lines[2,-1]}"; do
    described+=("\${\${line%%$'\\t'*}//:/\\\\:}\${\${line#*$'\\t'}:+:\${line#*$'\\t'}}")
  done
  (( $#described )) && _describe -V dsm described
  case $lines[1] in
    files) _files ;;
    folders) _files -/ ;;
    program) _alternative 'commands:command:_command_names -e' 'files:file:_files' ;;
  esac
}
if [[ $funcstack[1] == _dsm ]]; then
  _dsm "$@"
else
  compdef _dsm dsm
fi
`,
  fish: `function __dsm_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    command -q $program; or set program dsm
    command -q $program; or return
    set -e words[1]
    set -l lines ($program completion fish -- $words "$current" 2>/dev/null)
    set -l rest $lines[1]
    set -e lines[1]
    string join \\n -- $lines
    set -l option (string match -r -- '^--[^=]+=' "$current")
    set -l word (string replace -r -- '^--[^=]+=' '' "$current")
    switch "$rest"
        case files
            printf '%s\\n' "$option"(__fish_complete_path $word)
        case folders
            printf '%s\\n' "$option"(__fish_complete_directories $word '')
        case program
            __fish_complete_path $word
            string match -qr / -- $word; or complete -C "$word"
    end
end
complete -c dsm -f -k -a '(__dsm_complete)'
`,
};

/** First line of the file in the function path of zsh: it names the command that the file completes. */
export const ZSH_HEADER = "#compdef dsm\n";
