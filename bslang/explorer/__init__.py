"""The explorer: layouts in one page of HTML, which shows what the compiler made of them."""
