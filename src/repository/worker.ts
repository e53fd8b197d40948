/** The entry of every worker: takes tasks by name, runs them to their end, answers. The tasks themselves are in the files they are imported from. */

import { parentPort, workerData } from 'node:worker_threads'
import { type AnswerMessage, Bridge, errorMessage } from './bridge.ts'
import type { WorkerStart } from './crew.ts'
import { Seal } from './seal.ts'
import { type TaskContext, tasks } from './tasks.ts'

const start = workerData as WorkerStart
const context: TaskContext = { bridge: new Bridge(start), seal: new Seal(start.secrets) }

parentPort?.on('message', ({ task, args }: { task: string; args: unknown }) => {
  let message: AnswerMessage
  try {
    message = { id: 0, answer: tasks[task]?.(context, args as never) }
  } catch (error) {
    message = { id: 0, error: errorMessage(error) }
  }
  parentPort?.postMessage(message)
})
