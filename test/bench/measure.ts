/** Numbers: samples to percentiles, runs in turn to ratios, and the report's tables. */

/**
 * The value below which a share of the samples lies, between two neighbours where it falls between them: 0.5 is the median.
 * @param samples at least one, in any order
 */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const at = (sorted.length - 1) * share
  const [below, above] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]] as [number, number]
  return below + (above - below) * (at % 1)
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5)
}

/** How long `work` takes, in ms. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  await work()
  return performance.now() - begun
}

export interface Pair {
  /** Medians, in ms. */
  readonly ours: number
  readonly theirs: number
  /** The median of the ratios of neighbours: what a drifting machine changes least. */
  readonly ratio: number
}

/** Times two things in turn, A B A B …, after one warm-up of each. */
export async function inTurn(
  runs: number,
  ours: () => Promise<unknown>,
  theirs: () => Promise<unknown>,
): Promise<Pair> {
  await ours()
  await theirs()
  const pairs: [number, number][] = []
  for (let run = 0; run < runs; run++) pairs.push([await timed(ours), await timed(theirs)])
  return {
    ours: median(pairs.map(([a]) => a)),
    theirs: median(pairs.map(([, b]) => b)),
    ratio: median(pairs.map(([a, b]) => a / b)),
  }
}

/** Prints one section of the report as a Markdown table. */
export function report(
  title: string,
  header: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): void {
  const lines = [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`)
  console.log(`\n## ${title}\n\n${lines.join('\n')}`)
}

/** `1.23x`. */
export function times(ratio: number): string {
  return `${ratio.toFixed(2)}x`
}

/** Milliseconds with as many digits as mean something. */
export function ms(value: number): string {
  return value < 10 ? value.toFixed(2) : value.toFixed(0)
}
