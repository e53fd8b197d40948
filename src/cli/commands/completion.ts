/**
 * `holdfast completion`. The scripts know nothing of the commands: they hand the words to the hidden `holdfast __complete` and
 * offer what it prints, so that they stay right when Holdfast is replaced by a newer one. Where it offers nothing, files are.
 */

import { AppError } from '../../errors.ts'
import { suggestion } from '../../units.ts'
import { command } from '../command.ts'
import { shells } from '../complete.ts'

// Bash splits words at '@', '=' and ':' too and replaces only the last piece, $2: what is before it is cut off the candidates.
const bash = `_holdfast() {
  local line=\${COMP_LINE:0:COMP_POINT} words current keep
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  current=\${words[-1]}
  mapfile -t COMPREPLY < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
  keep=\${current%"$2"}
  COMPREPLY=("\${COMPREPLY[@]#"$keep"}")
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == *[=/] ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -o default -F _holdfast holdfast
`

const zsh = `#compdef holdfast
_holdfast() {
  local -a found
  found=(\${(f)"$("\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( \${#found} )); then
    compadd -S '' -- \${(M)found:#*[=/]}
    compadd -- \${found:#*[=/]}
  else
    _files
  fi
}
compdef _holdfast holdfast
[[ $funcstack[1] == _holdfast ]] && _holdfast
`

const fish = `function __holdfast_complete
  set -l words (commandline -opc)
  set -l found ($words[1] __complete $words[2..] (commandline -ct) 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c holdfast -f -a '(__holdfast_complete)'
`

const scripts: Readonly<Record<string, string>> = { bash, zsh, fish }

/** Prints a script. */
export const completion = command({
  summary: 'print the completion script for a shell: bash, zsh or fish',
  description: [
    'bash: holdfast completion bash > /etc/bash_completion.d/holdfast',
    'zsh:  holdfast completion zsh > "${fpath[1]}/_holdfast"',
    'fish: holdfast completion fish > ~/.config/fish/completions/holdfast.fish',
  ].join('\n'),
  args: [{ name: 'SHELL', complete: 'shell' }],
  options: {},
  async run({ args: [shell], output }) {
    const script = Object.hasOwn(scripts, shell) ? scripts[shell] : undefined
    if (script === undefined)
      throw new AppError('INVALID_ARGUMENT', `unknown shell '${shell}'${suggestion(shell, shells)}`)
    output.result({ script }, () => script.trimEnd())
    return 0
  },
})
