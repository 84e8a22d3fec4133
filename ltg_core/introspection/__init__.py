"""What is wrong where: slices of held-out samples on which the classifier does worse, with the statistics to say so."""
