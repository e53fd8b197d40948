/** The progress of an operation on stderr: a bar that moves on a terminal, else a line every few seconds. */

import type { OperationView } from '../server/schemas.ts'
import { formatSize } from '../units.ts'
import { formatSpan, type Output, printable } from './output.ts'

/** Time between two lines where a line cannot be replaced. */
const lineEveryMs = 3000

const barWidth = 20

const eraseLine = '\r\u001b[K'

type Progress = NonNullable<OperationView['progress']>

function formatAmount(value: number, unit: string): string {
  return unit === 'bytes' ? formatSize(value) : String(Math.round(value))
}

/** `25%`, or what is done where the end is not known. */
export function formatShare({ done, total, unit }: Progress): string {
  if (total) return `${Math.floor(Math.min(1, done / total) * 100)}%`
  return `${formatAmount(done, unit)}${unit === 'bytes' ? '' : ` ${unit}`}`
}

/** `1M/s` */
export function formatRate({ rate, unit }: Progress): string {
  return `${formatAmount(rate, unit)}/s`
}

/** `snapshot.create db [#####---------------] 25% 1M of 4M, 1M/s, 3 seconds left` */
export function formatProgress({ kind, subject, progress }: OperationView): string {
  const what = printable(`${kind} ${subject}`)
  if (!progress) return `${what} ...`
  const { done, total, unit, secondsLeft } = progress
  if (!total) return `${what} ${formatShare(progress)}, ${formatRate(progress)}`
  const bar = '#'.repeat(Math.floor(Math.min(1, done / total) * barWidth)).padEnd(barWidth, '-')
  const amounts = `${formatAmount(done, unit)} of ${formatAmount(total, unit)}${unit === 'bytes' ? '' : ` ${unit}`}`
  const left = secondsLeft === null ? '' : `, ${formatSpan(secondsLeft * 1000)} left`
  return `${what} [${bar}] ${formatShare(progress)} ${amounts}, ${formatRate(progress)}${left}`
}

/** Where the progress of one operation is shown; nowhere with `--quiet`. */
export class ProgressLine {
  readonly #output: Output
  readonly #terminal: boolean
  #lastMs = Date.now()
  #shown = false
  /** Where lines stay. */
  #lastLine = ''

  constructor(output: Output) {
    this.#output = output
    this.#terminal = !output.quiet && output.terminal
  }

  show(operation: OperationView): void {
    if (this.#output.quiet) return
    if (this.#terminal) {
      this.#shown = true
      this.#output.note(eraseLine + formatProgress(operation))
    } else if (Date.now() - this.#lastMs >= lineEveryMs) {
      const line = `${formatProgress(operation)}\n`
      if (line === this.#lastLine) return
      this.#lastMs = Date.now()
      this.#lastLine = line
      this.#output.note(line)
    }
  }

  /** Leaves the line free for what comes next. */
  end(): void {
    if (this.#shown) this.#output.note(eraseLine)
    this.#shown = false
  }
}
