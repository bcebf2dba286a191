/** Colours of ranks in the style sheet; from that rank on they come again. */
export const RANK_COLOURS = 8;
