/** `suggestion` of units.ts, loaded only when there is something to suggest: its library would slow every command down. */
export async function suggest(word: string, known: readonly string[]): Promise<string> {
  const { suggestion } = await import('../units.ts')
  return suggestion(word, known)
}
