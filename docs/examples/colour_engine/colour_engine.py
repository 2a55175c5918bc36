"""Finds regions of a named colour, the largest first: another model behind `kosmos_ros.Engine`."""

import numpy as np

import kosmos_ros as kr

RGB = {'red': (255, 0, 0), 'green': (0, 160, 0), 'blue': (0, 0, 255), 'yellow': (255, 230, 0)}


class ColourEngine(kr.Engine):
    """Scores a region by its area, of which `argument` is the least, as fractions of the image."""

    def __init__(self, argument: str, limits: kr.Limits, report: kr.Report) -> None:
        self.name, self.remarks, self.closed = 'colours', (), False
        self.least, self.limits = float(argument or 0), limits

    def check_expression(self, expression):
        if not RGB.keys() & set(kr.check_expression(expression, self.limits).split()):
            raise kr.BadExpression(f'The expression names no colour; use {", ".join(RGB)}.')

    def encode_image(self, image):
        self._check_open()
        return kr.ImageContext(kr.image_from(image, self.limits), made_by=self)

    def locate(self, context, expressions, top_k=1):
        self._check_open()
        kr.check_locate(self, context, expressions, top_k)
        return [self._find(context.encoded, expression)[:top_k] for expression in expressions]

    def check_ask(self, ask, history=None):
        kr.check_question(self, ask, history, self.limits)

    def ask(self, ask, contexts, history=None):
        self._check_open()
        kr.check_question_with_images(self, ask, contexts, history, self.limits)
        seen = [name for name in RGB if any(self._find(one.encoded, name) for one in contexts)]
        answer = kr.Answer(f'Its colours are {", ".join(seen) or "none that I know"}.')
        return iter([kr.Draft(1, kr.Finish.END, lambda: answer, lambda: kr.Transcript(()))])

    def _find(self, image, text):
        small = image[:: 1 + len(image) // 256, :: 1 + image.shape[1] // 256].astype(int)
        colours = [RGB[word] for word in text.split() if word in RGB]
        mask = np.any([abs(small - colour).max(axis=2) < 80 for colour in colours], axis=0)
        left, found = set(map(tuple, np.argwhere(mask).tolist())), []
        while left:
            region = [left.pop()]
            for y, x in region:
                region += left & {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)}
                left.difference_update(region[-4:])
            corners = np.array([np.min(region, 0), np.max(region, 0) + 1]) / mask.shape
            found.append(kr.ScoredBox(kr.Box(*corners[:, ::-1].flat), len(region) / mask.size))
        found.sort(key=lambda one: one.score, reverse=True)
        return tuple(one for one in found if one.score >= self.least)

    def close(self):
        self.closed = True

    def _check_open(self):
        if self.closed:
            raise kr.EngineError('The colour engine has been closed; load it again.')
