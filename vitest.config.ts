/**
 * The test tiers as vitest projects: `vitest run --project unit`. A tier is a directory of test/; the lab tier is the files
 * that run under another kernel (scripts/lab/run), whatever their directory; those of the hosts tier drive such kernels.
 */

import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** Run by scripts/test inside the kernel lab and nowhere else. */
const labTests = ['test/conformance/{vfs,nfs,devicemapper}-lab.test.ts']

const minute = 60_000

/** Files run beside each other: each has daemons, dockerds, mounts and loop devices of its own, and looks at no others. */
function tier(name: string, options: { workers: number; timeoutMs: number }) {
  return {
    extends: true as const,
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      exclude: labTests,
      maxWorkers: options.workers,
      testTimeout: options.timeoutMs,
      hookTimeout: Math.max(options.timeoutMs, minute),
    },
  }
}

export default defineConfig({
  test: {
    watch: false,
    pool: 'forks',
    // Worker threads strip types by a WebAssembly module of Node's. Node 24.21 dies now and then when a wrapper of such a module is
    // compiled anew while another thread ends: a budget that is never used up keeps wrappers as they are. Built code has no types.
    execArgv: ['--wasm-wrapper-tiering-budget=2000000000'],
    teardownTimeout: minute,
    projects: [
      tier('unit', { workers: Math.max(2, availableParallelism() - 1), timeoutMs: 30_000 }),
      tier('conformance', { workers: 2, timeoutMs: 2 * minute }),
      tier('e2e', { workers: 2, timeoutMs: 3 * minute }),
      tier('faults', { workers: 2, timeoutMs: 3 * minute }),
      tier('hosts', { workers: 1, timeoutMs: 5 * minute }),
      {
        extends: true,
        test: {
          name: 'lab',
          include: labTests,
          fileParallelism: false,
          testTimeout: 5 * minute,
          hookTimeout: 5 * minute,
        },
      },
    ],
  },
})
