/** Lines of the output of other processes. */

/** A first line is cut at this many characters. */
const FIRST_LINE_MAX = 4096;

/** lines yields each complete line of a stream. Text after the last newline is not a line. */
export async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    const whole = rest.split("\n");
    rest = whole.pop() as string;
    yield* whole;
  }
}

/** firstLine returns the text up to the first newline, or all of it. */
export async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  const reader = stream.getReader();
  try {
    while (!text.includes("\n") && text.length < FIRST_LINE_MAX) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
  return text.split("\n")[0] as string;
}
