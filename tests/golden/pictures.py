# Makes tests/golden/pictures: one small picture in every disguise that photographs come in, each showing red, green, blue and white
# quarters (left to right, top to bottom) when it stands upright.   .venv/bin/python tests/golden/pictures.py
import os
import struct
import zlib

import numpy
from PIL import Image

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pictures")
os.makedirs(folder, exist_ok=True)
height, width = 16, 24
quarters = numpy.zeros((height, width, 3), numpy.uint8)
quarters[:8, :12] = 255, 0, 0
quarters[:8, 12:] = 0, 255, 0
quarters[8:, :12] = 0, 0, 255
quarters[8:, 12:] = 255, 255, 255
upright = Image.fromarray(quarters)


def save(image, name, **how):
    image.save(os.path.join(folder, name), **how)


save(upright, "plain.bmp")
save(upright, "plain.tiff", compression="tiff_lzw")
save(upright, "plain.webp", lossless=True)
save(upright, "plain.jpg", quality=95, subsampling=0)
save(upright.convert("L"), "grey.png")
save(upright.convert("L"), "grey.jpg", quality=95)
save(upright.convert("CMYK"), "cmyk.jpg", quality=95, subsampling=0)
save(upright.quantize(4), "palette.png")
# Stored lying on its side; the tag says how to turn it.
turned = Image.Exif()
turned[0x0112] = 6
save(upright.transpose(Image.Transpose.ROTATE_90), "turned.jpg", quality=95, subsampling=0, exif=turned)
# GIFs: interlaced; of two frames, the second black; blue made transparent.
save(upright, "plain.gif", interlace=1)
black = Image.new("RGB", (width, height))
save(upright.quantize(8), "moving.gif", save_all=True, append_images=[black.quantize(8)], duration=100, loop=0)
few = upright.quantize(4)
save(few, "transparent.gif", transparency=few.getpixel((0, height - 1)))


# Sixteen bits a channel, which Pillow does not write.
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


rows = (quarters.astype(">u2") * 257).reshape(height, -1)
with open(os.path.join(folder, "sixteen.png"), "wb") as out:
    out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)))
    out.write(chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))) + chunk(b"IEND", b""))
