/** The options that say what a new volume is to be; create-request.ts makes a request of them. */

import type { OptionSpecs } from './command.ts'

const createOption = { type: 'string', multiple: true, placeholder: 'KEY=VALUE', complete: 'create-option' } as const

/** Of every command that makes a volume. */
export const newVolumeOptions = {
  driver: { type: 'string', placeholder: 'DRIVER', complete: 'driver', help: "the driver (default: the daemon's)" },
  size: { type: 'string', placeholder: 'SIZE', help: 'the most it can hold, such as 10G (default: no limit)' },
  option: {
    ...createOption,
    short: 'o',
    help: "as docker volume create -o: an option of every volume, label.K, or one of the driver's own",
  },
  opt: { ...createOption, help: 'the same, by the name it has in docker' },
  label: { type: 'string', multiple: true, placeholder: 'K=V', help: 'a label' },
} as const satisfies OptionSpecs
