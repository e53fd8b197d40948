/**
 * The one error type and the one table of codes: HTTP status, exit code and whether a retry may help.
 * Foreign errors (errno, a tool's text, SQLite) are mapped to a code where they are met, never by the caller.
 */

/** Every code Holdfast answers with. `status` is the admin API's, `exit` the CLI's. */
export const errorTable = {
  INVALID_ARGUMENT: { status: 400, exit: 2, retryable: false },
  PERMISSION_DENIED: { status: 403, exit: 4, retryable: false },
  NOT_FOUND: { status: 404, exit: 3, retryable: false },
  ALREADY_EXISTS: { status: 409, exit: 5, retryable: false },
  IN_USE: { status: 409, exit: 6, retryable: false },
  ABORTED: { status: 409, exit: 6, retryable: true },
  FAILED_PRECONDITION: { status: 412, exit: 7, retryable: false },
  CANCELLED: { status: 499, exit: 130, retryable: false },
  INTERNAL: { status: 500, exit: 1, retryable: false },
  CORRUPT: { status: 500, exit: 11, retryable: false },
  NOT_SUPPORTED: { status: 501, exit: 8, retryable: false },
  UNAVAILABLE: { status: 503, exit: 9, retryable: true },
  TIMEOUT: { status: 504, exit: 9, retryable: true },
  NO_SPACE: { status: 507, exit: 10, retryable: true },
} as const

export type ErrorCode = keyof typeof errorTable

/** Facts about an error for programs: JSON values only, never a secret. */
export type ErrorDetails = Readonly<Record<string, unknown>>

/** An error that a user may read: the message names the subject, the fact and what to do. */
export class AppError extends Error {
  override readonly name = 'AppError'
  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, options: { details?: ErrorDetails; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.details = options.details ?? {}
  }
}

/** True for an `AppError`, with one of `codes` when any are given. */
export function isAppError(error: unknown, ...codes: ErrorCode[]): error is AppError {
  return error instanceof AppError && (codes.length === 0 || codes.includes(error.code))
}

const errnoCodes: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
  EROFS: 'FAILED_PRECONDITION',
  EBUSY: 'IN_USE',
  ENOENT: 'NOT_FOUND',
  EEXIST: 'ALREADY_EXISTS',
  ETIMEDOUT: 'TIMEOUT',
}

/** The system's error name (`ENOSPC`) of a failed file-system call, or undefined. */
export function errno(error: unknown): string | undefined {
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  return typeof code === 'string' ? code : undefined
}

/** Maps a failed file-system call to an `AppError` that says what was being done; an `AppError` is returned as it is. */
export function fromErrno(error: unknown, doing: string): AppError {
  if (error instanceof AppError) return error
  const code = errnoCodes[errno(error) ?? ''] ?? 'INTERNAL'
  return new AppError(code, `${doing}: ${(error as Error).message}`, { cause: error })
}

/** Whatever was thrown, as an `AppError`: an abort becomes CANCELLED, a full disk NO_SPACE, anything unknown INTERNAL. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error
  if (error instanceof Error && error.name === 'AbortError') {
    return new AppError('CANCELLED', 'cancelled', { cause: error })
  }
  const message = error instanceof Error ? error.message : String(error)
  // Any file call may meet it, also one whose other errors nobody expects.
  const code = errnoCodes[errno(error) ?? ''] === 'NO_SPACE' ? 'NO_SPACE' : 'INTERNAL'
  return new AppError(code, message, { cause: error })
}
