/** Colours, and who wants none. */
import { styleText } from "node:util";

/** Whether to colour what goes to `stream`: FORCE_COLOR decides, then NO_COLOR (no-color.org), then the terminal. */
export function isColoured(stream: { isTTY?: boolean | undefined }, environment = process.env): boolean {
  const { FORCE_COLOR, NO_COLOR, TERM } = environment;
  if (FORCE_COLOR) return FORCE_COLOR !== "0" && FORCE_COLOR !== "false";
  if (NO_COLOR) return false;
  return stream.isTTY === true && TERM !== "dumb";
}

/** The text between the escapes of `style`, wherever it goes: print() takes them out again where none are wanted. */
export function styled(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { validateStream: false });
}
