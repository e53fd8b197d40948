/** The progress of an operation on stderr: a bar that moves on a terminal, else a line every few seconds. */

import type { OperationView } from '../server/schemas.ts'
import { formatSize } from '../units.ts'
import { formatSpan, type Output } from './output.ts'

/** Time between two lines where a line cannot be replaced. */
const lineEveryMs = 3000

const barWidth = 20

const eraseLine = '\r\u001b[K'

/** `snapshot.create db [#####---------------] 25% 1M of 4M, 1M/s, 3 seconds left` */
export function formatProgress({ kind, subject, progress }: OperationView): string {
  if (!progress) return `${kind} ${subject} ...`
  const { done, total, rate, unit } = progress
  const amount = (value: number): string => (unit === 'bytes' ? formatSize(value) : String(Math.round(value)))
  const speed = `${amount(rate)}/s`
  const suffix = unit === 'bytes' ? '' : ` ${unit}`
  if (total === null || total <= 0) return `${kind} ${subject} ${amount(done)}${suffix}, ${speed}`
  const share = Math.min(1, done / total)
  const bar = '#'.repeat(Math.floor(share * barWidth)).padEnd(barWidth, '-')
  const left = rate > 0 ? `, ${formatSpan(((total - done) / rate) * 1000)} left` : ''
  return `${kind} ${subject} [${bar}] ${Math.floor(share * 100)}% ${amount(done)} of ${amount(total)}${suffix}, ${speed}${left}`
}

/** Where the progress of one operation is shown; nowhere with `--quiet`. */
export class ProgressLine {
  readonly #output: Output
  readonly #terminal: boolean
  #lastMs = Date.now()
  #shown = false

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
      this.#lastMs = Date.now()
      this.#output.note(`${formatProgress(operation)}\n`)
    }
  }

  /** Leaves the line free for what comes next. */
  end(): void {
    if (this.#shown) this.#output.note(eraseLine)
    this.#shown = false
  }
}
