/** Colours of the terminal, and whether to use them. */
import { styleText } from "node:util";

/**
 * isColoured returns whether to colour output to `stream`: FORCE_COLOR, NO_COLOR (no-color.org), then the terminal
 * decides.
 */
export function isColoured(stream: { isTTY?: boolean | undefined }, environment = process.env): boolean {
  const { FORCE_COLOR, NO_COLOR, TERM } = environment;
  if (FORCE_COLOR) return FORCE_COLOR !== "0" && FORCE_COLOR !== "false";
  if (NO_COLOR) return false;
  return stream.isTTY === true && TERM !== "dumb";
}

/** styled returns the text with the escapes of `style`. print() removes them for output without colours. */
export function styled(style: Parameters<typeof styleText>[0], text: string): string {
  return styleText(style, text, { validateStream: false });
}
