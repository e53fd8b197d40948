/**
 * Copies a directory tree whose content is somebody else's and may change while it is copied. `cp` works with paths, so a
 * container that swaps a directory for a symlink in the right moment would make it read the host's files into the copy: it
 * therefore runs where the host's files are not, in a sandbox (bubblewrap) that holds the source, the copy and /usr.
 * Kept: ownership, mode, times, hard links, holes, device nodes, FIFOs, sockets, set-id bits, ACLs, all xattrs. Data is shared
 * with the source where the file system can (reflink).
 */

import { AppError } from '../errors.ts'
import { type ExecResult, exec, run, toolError } from './exec.ts'

const visible = ['/lib', '/lib32', '/lib64', '/bin'].flatMap((path) => ['--ro-bind-try', path, path])

/** What cp needs to give every file its owner, mode, device number and xattrs (trusted.* takes CAP_SYS_ADMIN). */
const capabilities = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'MKNOD',
  'SETFCAP',
  'SYS_ADMIN',
].flatMap((name) => ['--cap-add', `CAP_${name}`])

const sandbox = [
  ...['--unshare-pid', '--unshare-net', '--unshare-ipc', '--unshare-uts', '--die-with-parent', '--new-session'],
  ...['--ro-bind', '/usr', '/usr', ...visible, '--cap-drop', 'ALL', ...capabilities],
]

const copyCommand = [
  ...['cp', '--no-dereference', '--recursive', '--preserve=mode,ownership,timestamps,links,xattr'],
  ...['--reflink=auto', '--sparse=auto', '--no-target-directory', '/source', '/copy'],
]

const attempts = 3

/**
 * Copies the content and the attributes of the directory `source` to the existing directory `copy`. Both may lie anywhere, no
 * part of their paths may be in a container's hands. Files deleted meanwhile are left out.
 * A failure, an abort or a crash leaves a part of the copy: build it aside.
 * @param subject what is copied, for messages: `volume db`
 * @throws ABORTED when files keep being replaced while they are copied, NO_SPACE, the signal's reason
 */
export async function copyTree(source: string, copy: string, subject: string, signal?: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const result = await runCopy([...sandbox, '--ro-bind', source, '/source', '--bind', copy, '/copy'], signal)
    if (result.exitCode === 0 || onlyVanished(result)) return
    if (!onlyRaces(result)) throw copyError(subject, result)
    if (attempt === attempts) {
      throw new AppError(
        'ABORTED',
        `files in ${subject} are replaced faster than they can be copied; pause their writers`,
      )
    }
    await exec('find', [copy, '-mindepth', '1', '-delete'], { signal, timeoutMs: 0 })
  }
}

/** cp's own words, with names as they are in the volume: the sandbox's paths mean nothing outside. */
function copyError(subject: string, result: ExecResult): AppError {
  const text = result.stderr.replaceAll(/^cp: /gm, '').replaceAll(/'\/source([^'\n]*)' (?:to|->) '\/copy\1'/g, "'$1'")
  const stderr = text.replaceAll(/'\/(?:source|copy)(?=['/])/g, "'").replaceAll("''", "'/'")
  const { code, message, details } = toolError('cp', { ...result, stderr })
  return new AppError(code, `cannot copy ${subject}: ${message}`, { details })
}

/**
 * Runs cp in the sandbox. An abort kills the sandbox's first process, whose pid bwrap tells: killed itself before it has set the
 * sandbox up, bwrap leaves that process waiting for it for ever.
 */
async function runCopy(options: readonly string[], signal?: AbortSignal): Promise<ExecResult> {
  signal?.throwIfAborted()
  let first: number | undefined
  let status = ''
  const endSandbox = () => {
    if (signal?.aborted && first !== undefined) endProcess(first)
  }
  signal?.addEventListener('abort', endSandbox)
  try {
    const result = await run('bwrap', [...options, '--json-status-fd', '1', '--', ...copyCommand], {
      timeoutMs: 0,
      onStdout: (chunk) => {
        status += chunk
        first ??= firstProcess(status)
        endSandbox()
      },
    })
    signal?.throwIfAborted()
    return result
  } finally {
    signal?.removeEventListener('abort', endSandbox)
  }
}

function firstProcess(status: string): number | undefined {
  const match = /"child-pid": (\d+)\D/.exec(status)
  return match ? Number(match[1]) : undefined
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

/** A file was deleted before its turn came: it is simply not in the copy. */
const vanished = /^cp: cannot (stat|open|access|read symbolic link) '.*'( for reading)?: No such file or directory$/

/** A name meant one thing when cp looked and another when it used it: the copy may lack something that was there all the time. */
const replaced = [
  /^cp: skipping file .*, as it was replaced while being copied$/,
  /^cp: .*'\/source.*: (No such file or directory|Not a directory|Is a directory|Too many levels of symbolic links)$/,
  /^cp: cannot read symbolic link '.*': Invalid argument$/,
  /^cp: (cannot overwrite (non-)?directory|will not overwrite just-created) '\/copy.*$/,
]

function complaints(result: ExecResult): string[] {
  return result.exitCode === 1 ? result.stderr.split('\n').filter((line) => line !== '') : []
}

function onlyVanished(result: ExecResult): boolean {
  const lines = complaints(result)
  return lines.length > 0 && lines.every((line) => vanished.test(line))
}

function onlyRaces(result: ExecResult): boolean {
  const lines = complaints(result)
  return lines.length > 0 && lines.every((line) => replaced.some((pattern) => pattern.test(line)))
}
